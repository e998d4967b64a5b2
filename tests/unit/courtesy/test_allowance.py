"""Bytes and hours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.courtesy.allowance import HOUR_S, ByteDebt, ByteWindow, closed_for_s

DAY_0 = 20_000 * 86_400.0  # a midnight


def test_bytes_per_second_are_a_debt() -> None:
    debt = ByteDebt(100.0, 0.0)
    assert debt.delay_s(0.0) == 0
    debt.received(300, 10.0)
    assert debt.delay_s(10.0) == pytest.approx(2.0)  # a second's worth had been saved up
    debt.received(100, 11.0)
    assert debt.delay_s(11.0) == pytest.approx(2.0)
    assert debt.delay_s(13.0) == 0


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 3)), max_size=40))
def test_bytes_over_any_window_are_bounded(answers: list[tuple[int, float]]) -> None:
    debt, now = ByteDebt(100.0, 0.0), 0.0
    received: list[tuple[float, int]] = []
    for nbytes, wait_s in answers:
        now += max(wait_s, debt.delay_s(now))
        debt.received(nbytes, now)
        received.append((now, nbytes))
    for first, (start, _) in enumerate(received):
        for last in range(first, len(received)):
            window_s = received[last][0] - start
            total = sum(nbytes for _, nbytes in received[first : last + 1])
            assert total <= 100.0 * (window_s + 1) + received[last][1] + 1e-6


def test_no_limit_never_waits() -> None:
    debt, window = ByteDebt(None, 0.0), ByteWindow(None, HOUR_S)
    debt.received(10**12, 0.0)
    window.received(10**12, DAY_0)
    assert debt.delay_s(0.0) == window.delay_s(10**12, DAY_0) == 0
    assert window.bins(DAY_0) == ()


def test_a_window_is_rolling_and_opens_when_the_oldest_has_passed() -> None:
    window = ByteWindow(1000, HOUR_S)
    window.received(600, DAY_0)
    assert window.delay_s(400, DAY_0 + 10) == 0
    window.received(400, DAY_0 + 1800)
    assert window.delay_s(1, DAY_0 + 1800) == pytest.approx(1800 + 60)
    assert window.delay_s(601, DAY_0 + 1800) == pytest.approx(3600 + 60)
    assert window.delay_s(600, DAY_0 + 3660) == 0


@given(st.lists(st.tuples(st.integers(0, 700), st.floats(0, 900)), max_size=60))
def test_no_hour_holds_more_than_its_bytes(answers: list[tuple[int, float]]) -> None:
    window, wall = ByteWindow(1000, HOUR_S), DAY_0
    received: list[tuple[float, int]] = []
    for nbytes, wait_s in answers:
        wall += wait_s
        wall += window.delay_s(nbytes, wall)
        window.received(nbytes, wall)
        received.append((wall, nbytes))
    for end, _ in received:
        inside = [nbytes for time, nbytes in received if end - HOUR_S < time <= end]
        assert sum(inside) <= 1000


def test_an_answer_larger_than_the_budget_goes_when_the_window_is_empty() -> None:
    window = ByteWindow(1000, HOUR_S)
    assert window.delay_s(5000, DAY_0) == 0
    window.received(5000, DAY_0)
    assert window.delay_s(5000, DAY_0 + 60) == pytest.approx(3600)


def test_bins_go_on_after_a_restart_and_stay_few() -> None:
    window = ByteWindow(1000, HOUR_S)
    for minute in range(500):
        window.received(1, DAY_0 + 60 * minute)
    kept = window.bins(DAY_0 + 60 * 499)
    assert len(kept) == 61
    again = ByteWindow(61, HOUR_S, kept)
    assert again.delay_s(1, DAY_0 + 60 * 499) == pytest.approx(60)


@pytest.mark.parametrize(
    ("hours", "second", "wait_s"),
    [
        ((), 5, 0),
        (((72_000, 86_400), (0, 21_600)), 0, 0),
        (((72_000, 86_400), (0, 21_600)), 21_600, 50_400),
        (((72_000, 86_400), (0, 21_600)), 80_000, 0),
        (((32_400, 61_200),), 61_200, 57_600),
        (((32_400, 61_200),), 32_399, 1),
    ],
)
def test_hours_of_the_day(
    hours: tuple[tuple[float, float], ...], second: float, wait_s: float
) -> None:
    assert closed_for_s(hours, DAY_0 + second) == wait_s
