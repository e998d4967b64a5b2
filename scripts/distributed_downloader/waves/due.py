"""When another wave is due: what the workflow's loop asks of the live state.

1. Work that is left when a run starts earns a wave. If a person has changed meanwhile what is left
   (the ignored table, `retries.waves`, `retry_failed`, the list), it has to be counted anew: that
   takes a wave, too. So does `revalidate`, since images grow old, and a wave that was cut: what it
   stored waits to be consolidated.
2. A wave that left rows behind earns another one, until `num_downloads` waves have run.
3. A wave that changed nothing earns none: another would change nothing either, unless a server
   rests meanwhile.
4. If all that is left belongs to blocked groups, a wave is due only if the first of them is free
   within `politeness.wait_s`; its plan then waits, without a job. If the network was cut, a new run
   looks at once.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distributed_downloader.durable import read_derived_json
from distributed_downloader.paths import OutputPaths
from distributed_downloader.settings import Settings
from distributed_downloader.waves.left import rules_of_today

STARTED = "started.json"
PROGRESS = "progress.json"


def started_waves(paths: OutputPaths) -> list[int]:
    """Waves that asked a server, or may have."""
    return sorted(int(mark.parent.name) for mark in paths.schedules.glob(f"*/{STARTED}"))


def first_wave(paths: OutputPaths) -> int:
    """The number of this run's first wave: a wave that was cut is not gone on with, but followed.

    What it stored is known from the files; its plan is out of date.
    """
    return max(started_waves(paths), default=-1) + 1


def next_wave_is_due(
    paths: OutputPaths,
    settings: Settings,
    *,
    first: int,
    wave: int,
    now: Callable[[], float] = time.time,
) -> bool:
    """Whether wave number `wave` of a run that began with number `first` is due, or is done."""
    if _progress(paths, wave) is not None:
        return True
    left = read_derived_json(paths.left)
    if left is None or (wave == first and _must_be_counted(left, settings)):
        return wave == first  # nothing is known of what is left
    is_more = left["left"] > 0 or (wave == first and _was_cut(paths, wave - 1))
    if not is_more or (settings.num_downloads and wave - first >= settings.num_downloads):
        return False
    if wave > first and _changed_nothing(_progress(paths, wave - 1)):
        return False
    may_be_back = wave == first and bool(left.get("cut_off"))  # nobody was there: look again
    return may_be_back or bool(left["free_at"] - now() <= settings.politeness.wait_s)


def _must_be_counted(left: Mapping[str, Any], settings: Settings) -> bool:
    """Whether other rows may be left than were; which images are old by now is seen by a plan."""
    is_changed = left.get("rules") != rules_of_today(settings)
    return is_changed or settings.revalidate_days is not None


def _was_cut(paths: OutputPaths, wave: int) -> bool:
    return (paths.wave(wave) / STARTED).exists() and _progress(paths, wave) is None


def _changed_nothing(progress: Any) -> bool:
    if progress is None:  # damaged: nobody knows
        return False
    return not (progress["changed"] or progress.get("blocks") or progress["blocked"])


def _progress(paths: OutputPaths, wave: int) -> Any:
    """What a wave said at its end; one whose file is damaged counts as cut."""
    return read_derived_json(Path(paths.wave(wave) / PROGRESS))
