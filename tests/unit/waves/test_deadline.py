import stat
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.waves.deadline import (
    FLUSH_S,
    KILL_WAIT_S,
    Deadline,
    deadline_of,
    seconds_left,
    squeue_left_s,
    working_s,
)

HOUR = 3600.0
SETTINGS = SimpleNamespace(timeouts=SimpleNamespace(total_s=60.0))


class Clock:
    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:07", 7),
        ("59:30", 59 * 60 + 30),
        ("3:59:30", 3 * 3600 + 59 * 60 + 30),
        ("2-03:00:05", 51 * 3600 + 5),
        (" 1:00\n", 60),
        ("UNLIMITED", None),
        ("NOT_SET", None),
        ("INVALID", None),
        ("", None),
        ("1:00\n2:00", None),
    ],
)
def test_slurms_time_left_is_read(text, seconds):
    assert seconds_left(text) == seconds


def test_a_long_wave_keeps_time_to_end_its_requests_to_store_and_to_consolidate():
    margin_s = 4 * HOUR - working_s(4 * HOUR, request_s=60)
    assert margin_s == pytest.approx(60 + FLUSH_S + KILL_WAIT_S + 0.05 * 4 * HOUR)


@given(
    left_s=st.floats(0, 30 * 24 * HOUR),
    request_s=st.floats(1, 3600),
)
def test_at_least_half_of_the_time_is_worked_and_never_all_of_it(left_s, request_s):
    works_s = working_s(left_s, request_s)
    assert left_s / 2 <= works_s <= left_s
    assert works_s < left_s or left_s == 0


@pytest.mark.parametrize(
    ("runtime_min", "squeue_s", "end_s"),
    [
        (240, None, 4 * HOUR),  # no Slurm to ask: the job's runtime, from now
        (240, 3 * HOUR, 3 * HOUR),  # it waited before the rank started
        (240, 9 * HOUR, 4 * HOUR),  # the partition allows more than was asked for
        (0, 2 * HOUR, 2 * HOUR),  # nothing was asked for: the partition's default
    ],
)
def test_the_earlier_end_counts(runtime_min, squeue_s, end_s):
    clock = Clock()
    deadline = deadline_of(SETTINGS, runtime_min, squeue=lambda: squeue_s, now=clock)
    assert deadline.stop_at == pytest.approx(1000 + working_s(end_s, 60))
    assert not deadline.is_over
    clock.time = deadline.stop_at
    assert deadline.is_over


def test_without_a_limit_there_is_no_end():
    deadline = deadline_of(SETTINGS, 0, squeue=lambda: None, now=Clock())
    assert deadline.stop_at is None
    assert not deadline.is_over
    assert not Deadline().is_over


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """A program of that name that runs this shell line."""

    def install(line):
        program = tmp_path / "squeue"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.setenv("SLURM_JOB_ID", "17")

    return install


def test_squeue_is_asked_about_our_own_job(squeue):
    squeue('[ "$*" = "--noheader --jobs 17 --format %L" ] && echo 1:30:00')
    assert squeue_left_s() == 1.5 * HOUR


@pytest.mark.parametrize("line", ["echo 1:00; exit 1", "echo UNLIMITED", "true"])
def test_a_squeue_that_does_not_know_says_nothing(squeue, line):
    squeue(line)
    assert squeue_left_s() is None


def test_outside_of_slurm_nobody_is_asked(squeue, monkeypatch):
    squeue("echo 1:00")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert squeue_left_s() is None
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PATH", "/nowhere")
    assert squeue_left_s() is None
