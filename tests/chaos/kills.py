"""Which process is ended, how, and when: drawn from a seed, within bounds."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import psutil

from tests.workflow.drill import Run

LATEST_S = 4.5  # after the start, or after the first request
TWICE_S = 8.0  # the second command of a round: until it has taken over, and some more
AT_WORK = 0.65  # of the rounds: else a wave, which is short, would hardly be met
LOOK_S = 0.2
SCRIPTS = (  # a run's stages, the last that runs is told
    *("partition_urls.py", "profile_servers.py", "schedule_wave.py", "download_images.py"),
    *("verify_dataset.py", "write_report.py"),
)


class Kill(StrEnum):
    """What a round does to a run."""

    RANK = "a rank"
    LAUNCHER = "mpiexec"
    WORKFLOW = "snakemake"  # whose wave works on; the command is given again at once
    JOB = "a stage"
    DECODER = "a decoder"  # its image goes to another
    ALL = "everything"
    ASK = "SIGTERM to all"  # nothing may be lost
    NONE = "nothing"  # it had ended before


HARMLESS = (Kill.ASK, Kill.DECODER, Kill.NONE)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a run is met: so long after it began, or after servers first heard of it."""

    at_work: bool
    after_s: float


def draw(dice: random.Random) -> Moment:
    """The next moment."""
    return Moment(dice.random() < AT_WORK, dice.uniform(0, LATEST_S))


def wait_until(
    moment: Moment, run: Run, has_asked: Callable[[], bool], look: Callable[[], None]
) -> bool:
    """Whether the run is still there at that moment; `look` is called meanwhile."""
    begun = None if moment.at_work else time.monotonic()
    while run.process.poll() is None:
        look()
        if begun is None and has_asked():
            begun = time.monotonic()
        left_s = LOOK_S if begun is None else begun + moment.after_s - time.monotonic()
        if left_s <= 0:
            return True
        time.sleep(min(LOOK_S, left_s))
    return False


def stage_of(run: Run) -> str:
    """The stage that is at work."""
    at_work = [name for name in SCRIPTS if run.named(name)]
    return at_work[-1].partition("_")[0] if at_work else "between"


def strike(run: Run, dice: random.Random) -> Kill:
    """End one of the run's processes, or all of them; which one it was."""
    victims = _victims(run)
    kill = dice.choice(sorted(victims))
    for process in victims[kill]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if kill is Kill.ASK:
        with suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGTERM)
    return kill


def _victims(run: Run) -> dict[Kill, list[psutil.Process]]:
    """What may be ended now."""
    found: dict[Kill, list[psutil.Process]] = {
        Kill.ALL: run.processes(),
        Kill.ASK: [],
        Kill.WORKFLOW: [one for one in run.processes() if one.pid == run.process.pid],
    }
    if ranks := run.ranks():
        found |= {Kill.RANK: ranks[-1:], Kill.LAUNCHER: run.named("mpiexec")}
        if decoders := [child for rank in ranks for child in _children(rank)]:
            found[Kill.DECODER] = decoders[:1]
    elif jobs := [job for name in SCRIPTS for job in run.named(name)]:
        found[Kill.JOB] = jobs[:1]
    return found


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children()
    return []
