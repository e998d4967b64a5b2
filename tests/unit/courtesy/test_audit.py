"""Peaks, counted exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.courtesy.audit import Peak, Tallies, over_budget


@given(st.lists(st.floats(0, 2), max_size=80), st.floats(0.1, 5))
def test_the_peak_is_the_most_in_any_window(gaps: list[float], window_s: float) -> None:
    peak, times, now = Peak(window_s), [], 0.0
    for gap in gaps:
        now += gap
        peak.sent(now)
        times.append(now)
    inside = [sum(1 for t in times if t <= end and end - t < window_s) for end in times]
    assert peak.most == max(inside, default=0)


def test_memory_is_bounded_by_the_window() -> None:
    peak = Peak(1.0)
    for number in range(10_000):
        peak.sent(number / 10)
    assert len(peak._sent) <= 11


def test_tallies_become_columns() -> None:
    tallies = Tallies()
    for number in range(4):
        tallies.turn(1e9 + number)
        tallies.sent(number * 0.5)
    tallies.heard(200, 0.2, 1000)
    tallies.heard(429, 0.4, 0)
    columns = tallies.columns()
    assert (columns["requests"], columns["images"], columns["bytes"]) == (4, 1, 1000)
    assert (columns["peak_1s"], columns["peak_10s"]) == (2, 4)
    assert columns["latency_s"] == pytest.approx(0.3)
    assert columns["mean_bytes"] == 500
    assert columns["last_request"] == 1e9 + 3
    assert Tallies().columns()["latency_s"] is None


@pytest.mark.parametrize(
    ("peak_1s", "peak_10s", "burst", "is_over"),
    [(4, 31, 1, False), (5, 31, 1, True), (4, 32, 1, True), (7, 34, 4, False), (8, 8, 4, True)],
)
def test_a_peak_over_the_budget_is_a_sentence(
    peak_1s: int, peak_10s: int, burst: int, is_over: bool
) -> None:
    row = {"group": "a.org", "limit": 3.0, "burst": burst}
    said = over_budget({**row, "peak_1s": peak_1s, "peak_10s": peak_10s})
    assert (said is not None) == is_over
    assert said is None or said.startswith("a.org was asked")
