"""What can be said of a dataset at any moment, also from beside a run at work: nothing is touched.

Who is at work, how far the stage has come, and the numbers of the last count. A wave's own rows are
counted when it ends, so while one runs the numbers are those from before it.
"""

import time
from collections.abc import Callable, Iterator
from typing import TextIO

from distributed_downloader.accounts.digest import Line, print_lines, rows_of, what_next
from distributed_downloader.accounts.summary import read_summary
from distributed_downloader.paths import OutputPaths
from distributed_downloader.storage.holder import Probe, own_holder
from distributed_downloader.storage.lock_files import LockFiles
from distributed_downloader.waves.progress import line, read_progress
from distributed_downloader.wording import duration

QUIET_S = 120.0  # progress that is older tells of nobody at work


def print_status(
    paths: OutputPaths, stream: TextIO, *, now: Callable[[], float] = time.time
) -> None:
    """A few lines for a person. Raises LockError if a lock file cannot be read."""
    print_lines(_lines(paths, now()), stream)


def _lines(paths: OutputPaths, now: float) -> Iterator[Line]:
    if not paths.root.is_dir():
        yield "At work", f"nobody, and {paths.root} is not there yet"
        return
    yield "At work", _who(paths)
    progress = read_progress(paths.checkpoint)
    is_at_work = paths.writer_lock.exists()
    if progress is not None and is_at_work and abs(now - progress.updated) < QUIET_S:
        yield "Now", line(progress)
    summary = read_summary(paths)
    if summary is None:
        yield "Counted", "nothing yet: rows are counted after the waves"
        return
    yield "Counted", f"{duration(max(0.0, now - summary['written']))} ago"
    yield from rows_of(summary)
    yield from what_next(summary)


def _who(paths: OutputPaths) -> str:
    """The holders of the locks that can be taken for alive from here."""
    me, probe = own_holder("", "status"), Probe()
    seen = [LockFiles().read(path) for path in (paths.run_lock, paths.writer_lock)]
    holders = [one.holder for one in seen if one is not None]
    alive = [str(one) for one in holders if one and not probe.is_dead(one, me, quiet_s=0.0)]
    return "; ".join(alive) or "nobody"
