"""The bound of the limiter, for any caller."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.courtesy.limiter import (
    LATENESS_S,
    Limiter,
    capacity,
    most_requests,
)

TINY = 1e-5
RATES = st.floats(0.01, 500)
BURSTS = st.integers(1, 20)


def most_in_any_window(sent: list[float], rate: float, burst: int) -> None:
    """Every window that begins and ends with a request: the bound, by brute force."""
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            window_s = sent[last] - sent[first]
            assert last - first + 1 <= rate * window_s + burst + TINY


def requests(limiter: Limiter, lateness: list[float]) -> list[float]:
    """A caller that comes late by so many seconds, again and again."""
    now, sent = 0.0, []
    for late_s in lateness:
        now += limiter.delay_s(now) + late_s
        while limiter.delay_s(now) > 0:  # float dust
            now += limiter.delay_s(now) + 1e-9
        limiter.take(now)
        sent.append(now)
    return sent


@given(RATES, BURSTS, st.lists(st.floats(0, 3), max_size=60), st.floats(0, 2))
def test_no_window_holds_more_than_rate_times_window_and_burst(
    rate: float, burst: int, lateness: list[float], scale: float
) -> None:
    sent = requests(Limiter(rate, burst, 0.0), [late * scale / rate for late in lateness])
    most_in_any_window(sent, rate, burst)
    assert all(time >= 1 / rate - TINY for time in sent)  # starts empty


@given(RATES, BURSTS)
def test_what_a_window_may_show_is_the_rate_and_the_burst(rate: float, burst: int) -> None:
    assert capacity(rate, burst) == burst
    assert burst <= capacity(rate, burst, is_lenient=True) <= burst + min(0.5, rate * LATENESS_S)
    for intervals in range(1, 5):
        assert most_requests(intervals / rate, rate, burst) == intervals + burst
    assert most_requests(0.99 / rate, rate, burst) == burst


CHANGES = st.lists(st.tuples(RATES, BURSTS, st.floats(0, 2), st.booleans()), max_size=30)


@given(CHANGES)
def test_changes_of_rate_and_blocks_open_no_hole(
    changes: list[tuple[float, int, float, bool]],
) -> None:
    limiter, now, saved = Limiter(1.0, 1, 0.0), 0.0, 0.0  # saved: the integral of the rate so far
    sent: list[tuple[float, float]] = []
    top = capacity(1.0, 1)
    for rate, burst, wait_s, is_block in changes:
        saved += limiter.rate * wait_s
        now += wait_s
        while limiter.delay_s(now) == 0:
            limiter.take(now)
            sent.append((now, saved))
        limiter.set_rate(rate, burst, now)
        top = max(top, capacity(rate, burst))
        if is_block:
            limiter.empty(now + 0.5)
            saved += rate * 0.5
            now += 0.5
            assert limiter.delay_s(now) >= 1 / rate - TINY
    for first, (_, before) in enumerate(sent):
        for last in range(first, len(sent)):
            assert last - first + 1 <= sent[last][1] - before + top + TINY


def test_a_request_that_was_late_costs_no_capacity() -> None:
    late = [0.0, 0.009, 0.004, 0.019, 0.0, 0.012] * 20
    sent = requests(Limiter(10.0, 1, 0.0, is_lenient=True), late)
    assert sent[-1] <= len(late) / 10 + max(late) + TINY


def test_lateness_of_more_than_the_slack_is_lost_not_made_up() -> None:
    sent = requests(Limiter(10.0, 1, 0.0, is_lenient=True), [0.0, 5.0, 0.0, 0.0])
    gaps = [round(b - a, 6) for a, b in itertools.pairwise(sent)]
    assert gaps == [5.1, 0.08, 0.1]


def test_an_even_pace() -> None:
    sent = requests(Limiter(4.0, 1, 100.0), [100.0, 0, 0, 0])
    assert sent[1:] == pytest.approx([sent[0] + 0.25 * n for n in (1, 2, 3)])


def test_a_burst_is_saved_up_by_waiting_only() -> None:
    limiter = Limiter(10.0, 5, 0.0)
    assert limiter.delay_s(0.0) == pytest.approx(0.1)
    for _ in range(5):
        assert limiter.delay_s(50.0) == 0
        limiter.take(50.0)
    assert limiter.delay_s(50.0) == pytest.approx(0.1)


def test_nothing_goes_before_a_block_has_ended_and_an_interval_passed() -> None:
    limiter = Limiter(10.0, 3, 0.0)
    limiter.empty(30.0)
    assert limiter.delay_s(5.0) == pytest.approx(25.1)
    limiter.empty(20.0)
    assert limiter.delay_s(30.0) == pytest.approx(0.1)
