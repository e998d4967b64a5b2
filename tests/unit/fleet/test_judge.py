import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.fleet.access_log import Access, AccessLog
from distributed_downloader.fleet.judge import (
    ACCESS,
    burst_needed,
    exceeds,
    peak,
    peak_requests,
    read_log,
)
from distributed_downloader.fleet.site import Bucket


@pytest.mark.parametrize(
    ("times", "window_s", "most"),
    [
        ([], 1.0, 0),
        ([5.0], 1.0, 1),
        ([0.0, 0.0, 0.0], 1.0, 3),
        ([0.0, 1.0, 2.0], 1.0, 1),  # half-open: the window's end belongs to the next one
        ([0.0, 0.75, 1.25, 1.5], 1.0, 3),  # between the seconds of a clock on the wall
        ([0.0, 4.0, 4.5, 4.75, 9.0], 1.0, 3),
        ([0.0, 4.0, 4.5, 4.75, 9.0], 10.0, 5),
    ],
)
def test_peak_is_the_fullest_sliding_window(times, window_s, most):
    assert peak(times, window_s) == most


@pytest.mark.parametrize(
    ("times", "rate", "burst", "windows", "broken"),
    [
        ([0.0, 0.5, 1.0, 1.5], 2.0, 1.0, None, []),  # evenly paced needs a burst of 1
        ([0.0, 0.5, 1.0, 1.5], 2.0, 0.5, None, [1]),
        ([0.0, 0.0], 1.0, 1.0, None, [2]),
        ([0.0, 0.0], 1.0, 2.0, None, []),
        ([0.0, 0.25, 0.5, 0.75], 2.0, 1.0, [1.0], [4]),
        ([0.0, 0.25, 0.5, 0.75], 2.0, 2.0, [1.0], []),
        ([0.0, 0.25, 0.5, 0.75], 2.0, 1.0, [1.0, 10.0], [4]),  # quiet over ten seconds
        ([0.0] * 25, 2.0, 3.0, [1.0, 10.0], [25, 25]),
        ([100.0, 0.0], 1.0, 1.0, None, []),  # any order
        ([], 1.0, 0.0, None, []),
    ],
)
def test_judge_finds_the_broken_windows(times, rate, burst, windows, broken):
    assert [found.requests for found in exceeds(times, rate, burst, windows)] == broken


def test_judge_names_the_window_and_what_it_allows():
    (found,) = exceeds([0.0, 7.0, 7.25, 7.5, 30.0], rate=2.0, burst=1.0)
    assert (found.window_s, found.requests, found.allowed) == (0.5, 3, 2.0)


EIGHTHS = st.lists(st.integers(0, 80).map(lambda eighth: eighth / 8), max_size=30)


@given(EIGHTHS, st.sampled_from([0.5, 1.0, 4.0]))
def test_burst_needed_is_that_of_the_worst_of_all_windows(times, rate):
    times = sorted(times)
    windows = [
        (j + 1 - i) - rate * (times[j] - times[i])
        for i in range(len(times))
        for j in range(i, len(times))
    ]
    assert burst_needed(times, rate) == max(windows, default=0.0)


@given(EIGHTHS, st.sampled_from([0.5, 1.0, 4.0]), st.sampled_from([0.5, 1.0, 3.0]))
def test_who_keeps_to_every_window_keeps_to_each(times, rate, window_s):
    assert exceeds(times, rate, burst_needed(times, rate), [window_s]) == []


@given(EIGHTHS, st.sampled_from([1.0, 4.0]), st.integers(0, 3))
def test_bucket_admits_what_the_judge_allows_and_no_more(times, rate, burst):
    bucket = Bucket(rate, burst)
    admitted = [time for time in sorted(times) if bucket.admits(time)]
    assert exceeds(admitted, rate, burst + 1) == []


def access(**changes) -> Access:
    plain = Access(1.0, 1.0, "a.test", "test", "127.0.0.1", "GET", "/x", 200, "us", 3, 1)
    return Access(**{**{name: getattr(plain, name) for name in Access.__slots__}, **changes})


def test_log_is_read_back_in_order_without_the_line_cut_by_a_kill(tmp_path):
    path = tmp_path / "access.jsonl"
    log = AccessLog(path)
    log.write(access(monotonic=2.0, path="/second"))
    log.write(access(monotonic=1.0, path="/first"))
    log.close()
    with path.open("a") as file:
        file.write('{"time": 1.0, "mono')
    read = read_log(path)
    assert read.schema == ACCESS
    assert read["path"].to_list() == ["/first", "/second"]


def test_log_that_is_not_there_has_no_rows(tmp_path):
    assert read_log(tmp_path / "none.jsonl").height == 0
    assert peak_requests(read_log(tmp_path / "none.jsonl")) == {}


def test_peaks_are_counted_by_host_and_by_group():
    times = {"img1.test": [0.0, 0.5], "img2.test": [0.25, 5.0]}
    rows = [
        {"monotonic": time, "host": name, "group": "both"}
        for name, ours in times.items()
        for time in ours
    ]
    log = pl.DataFrame(rows)
    assert peak_requests(log, 1.0) == {"img1.test": 2, "img2.test": 1}
    assert peak_requests(log, 1.0, by="group") == {"both": 3}
