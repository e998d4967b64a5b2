"""When a wave must ask no more, so that all it fetched is stored before its job's time is over.

1. The end is the earlier of two: the minutes that the job was given, counted from the rank's start,
   and what Slurm says is left. One rank asks squeue, once, and tells the others.
2. Before the end a margin is kept: for requests under way, for storing, for consolidation, and for
   the seconds that Slurm gives between asking and killing.
3. A job so short that the margin would eat it works for half of its time.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from distributed_downloader.settings import Settings

FLUSH_S = 10.0  # to commit what the ranks hold
KILL_WAIT_S = 30.0  # Slurm's default between SIGTERM and SIGKILL
CONSOLIDATION_SHARE = 0.05  # of the time left: a longer wave stores more
LEAST_WORK_SHARE = 0.5  # of the time left
_SQUEUE_S = 20.0
_TIME_LEFT = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)")  # [[days-]hours:]minutes:seconds

Squeue = Callable[[], float | None]


def working_s(left_s: float, request_s: float) -> float:
    """How long new requests may be sent, `left_s` before the end; one takes `request_s` at most."""
    margin_s = request_s + FLUSH_S + KILL_WAIT_S + CONSOLIDATION_SHARE * left_s
    return max(left_s - margin_s, LEAST_WORK_SHARE * left_s)


def seconds_left(text: str) -> float | None:
    """Slurm's time left; None for UNLIMITED and other words."""
    found = _TIME_LEFT.fullmatch(text.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def squeue_left_s() -> float | None:
    """What Slurm says is left of this job; None outside of Slurm, or if it does not answer."""
    job, squeue = os.environ.get("SLURM_JOB_ID"), shutil.which("squeue")
    if not job or squeue is None:
        return None
    command = [squeue, "--noheader", "--jobs", job, "--format", "%L"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SQUEUE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return seconds_left(done.stdout) if done.returncode == 0 else None


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of our own monotonic clock; None = never."""

    stop_at: float | None = None
    now: Callable[[], float] = time.monotonic

    @property
    def is_over(self) -> bool:
        """Whether no new request may be sent."""
        return self.stop_at is not None and self.now() >= self.stop_at


def deadline_of(
    settings: Settings,
    runtime_min: int,
    *,
    squeue: Squeue = squeue_left_s,
    now: Callable[[], float] = time.monotonic,
) -> Deadline:
    """The deadline of a rank that starts now in a job of `runtime_min` minutes; 0 = not limited."""
    ends = [runtime_min * 60.0] if runtime_min else []
    started, left_s = now(), squeue()
    if left_s is not None:
        ends.append(left_s)
    if not ends:
        return Deadline(None, now)
    return Deadline(started + working_s(min(ends), settings.timeouts.total_s), now)
