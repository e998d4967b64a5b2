"""How far the stage at work has come: `checkpoint.json`, and the line that people see of it.

The file is derived and rewritten every few seconds, whole but not durable: nothing depends on it.
"""

import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from distributed_downloader.durable import ORPHAN_PREFIX
from distributed_downloader.logs import ERASE, is_live

LOOK_S = 1.0
PLAIN_LINE_S = 60.0  # between lines where there is no terminal
FRESH_S = 10.0  # a file that has not changed for so long tells of nobody at work
_WIDEST = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One look at a stage at work."""

    stage: str
    wave: int | None  # None outside of waves
    done: int  # rows that have an outcome in this wave
    total: int
    images: int
    errors: int
    images_per_second: float
    bytes: int  # received
    predicted_left_s: float | None  # None: nobody can say
    ranks: int
    started: float  # unix seconds
    updated: float  # unix seconds
    blocked: tuple[str, ...] = ()  # groups that rest

    @classmethod
    def from_json(cls, value: Any) -> "Progress":
        """ValueError, KeyError or TypeError if that is no progress."""
        wave, left = value["wave"], value["predicted_left_s"]
        return cls(
            stage=str(value["stage"]),
            wave=None if wave is None else int(wave),
            predicted_left_s=None if left is None else float(left),
            images_per_second=float(value["images_per_second"]),
            started=float(value["started"]),
            updated=float(value["updated"]),
            blocked=tuple(str(group) for group in value["blocked"]),
            **{name: int(value[name]) for name in _COUNTS},
        )


_COUNTS = ("done", "total", "images", "errors", "bytes", "ranks")


def write_progress(path: Path, progress: Progress) -> None:
    """Rewrite the file, whole, unless the disk refuses: it is not worth stopping for."""
    beside = path.with_name(f"{ORPHAN_PREFIX}{os.getpid()}-{path.name}")
    try:
        beside.write_text(json.dumps(asdict(progress), indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError:
        return


def read_progress(path: Path) -> Progress | None:
    """What the file says, or None if it says nothing."""
    try:
        return Progress.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def line(progress: Progress, width: int = _WIDEST) -> str:
    """The progress in at most `width` characters: what fits, the least important left out first."""
    parts = {
        "done": _done(progress),
        "rate": _rate(progress.images_per_second),
        "errors": _counted(progress.errors, "error") if progress.errors else "",
        "left": f"{countdown(progress.predicted_left_s)} left" if _is_known(progress) else "",
        "blocked": _resting(len(progress.blocked)),
    }
    for least in ("blocked", "errors", "rate", "left"):
        if len(text := ", ".join(filter(None, parts.values()))) <= width:
            return text
        del parts[least]
    return parts["done"][:width]


def _done(progress: Progress) -> str:
    name = progress.stage if progress.wave is None else f"wave {progress.wave}"
    unit = " images" if progress.wave is not None else ""
    share = f" ({100 * progress.done // progress.total}%)" if progress.total > 0 else ""
    return f"{name}: {progress.done:,} of {progress.total:,}{unit}{share}"


def _rate(per_second: float) -> str:
    if not math.isfinite(per_second) or per_second <= 0:
        return ""
    return f"{per_second:,.0f}/s" if per_second >= 9.95 else f"{per_second:.1f}/s"


def _is_known(progress: Progress) -> bool:
    left = progress.predicted_left_s
    return left is not None and math.isfinite(left) and progress.done < progress.total


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _resting(groups: int) -> str:
    return f"{_counted(groups, 'group')} resting" if groups else ""


def countdown(seconds: float | None) -> str:
    """Minutes and seconds, with hours from one hour on, days and hours from one day on."""
    minutes, rest = divmod(max(0, math.ceil(seconds or 0)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours_of_day = divmod(hours, 24)
    if days:
        return f"{_counted(days, 'day')} {hours_of_day} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def watch(
    checkpoint: Path, stream: TextIO, is_at_work: Callable[[], bool] = lambda: True
) -> Callable[[], None]:
    """Show this run's progress on the stream until what this returns is called.

    On a terminal one line that is drawn again each second and gives way to whatever else this
    process writes to the stream; elsewhere a plain line a minute. Nothing while nobody is at work:
    what the file says then is over.
    """
    display, over = Display(checkpoint, stream, is_at_work), threading.Event()

    def show_on() -> None:
        while not over.wait(LOOK_S):
            display.show()

    thread = threading.Thread(target=show_on, name="progress", daemon=True)
    thread.start()

    def stop() -> None:
        over.set()
        thread.join()
        display.close()

    return stop


class Display:
    """Shows a progress file on a stream, whenever told to, while somebody updates it."""

    def __init__(
        self,
        checkpoint: Path,
        stream: TextIO,
        is_at_work: Callable[[], bool] = lambda: True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checkpoint = checkpoint
        self._stream = stream
        self._is_at_work = is_at_work
        self._now = now
        self._is_live = is_live(stream)
        self._seen = self._look()  # of an earlier run: not shown
        self._changed_at, self._told_at = -math.inf, now()
        self._is_drawn = False
        self._guard = threading.RLock()
        self._write = stream.write
        if self._is_live:
            stream.write = self._write_of_others  # type: ignore[method-assign]

    def show(self) -> None:
        """Look at the file; draw or print if it is of this run, fresh, and time for it."""
        seen, now = self._look(), self._now()
        if seen != self._seen:
            self._seen, self._changed_at = seen, now
        is_fresh = now - self._changed_at < FRESH_S and self._is_at_work()
        progress = read_progress(self._checkpoint) if is_fresh else None
        if progress is None:
            self._erase()
        elif self._is_live:
            width = shutil.get_terminal_size().columns - 1
            self._put(f"{ERASE}{line(progress, width)}\r", is_drawn=True)
        elif now - self._told_at >= PLAIN_LINE_S:
            self._told_at = now
            self._put(line(progress) + "\n", is_drawn=False)

    def close(self) -> None:
        """Leave the stream as it was; a second call does nothing."""
        self._erase()
        vars(self._stream).pop("write", None)  # the class's own shows again

    def _look(self) -> tuple[int, int] | None:
        try:
            status = self._checkpoint.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _write_of_others(self, text: str) -> int:
        with self._guard:
            self._erase()
            return self._write(text)

    def _erase(self) -> None:
        if self._is_drawn:
            self._put(ERASE, is_drawn=False)

    def _put(self, text: str, *, is_drawn: bool) -> None:
        with self._guard, suppress(OSError, ValueError):  # a terminal may go, a stream be closed
            self._write(text)
            self._stream.flush()
            self._is_drawn = is_drawn
