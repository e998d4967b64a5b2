"""How long a lock file has not changed, on the observer's own clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from distributed_downloader.storage.lock_files import Seen

POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Clock:
    """Our own time, which runs on whatever the calendar does."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Watch:
    """One observer's looks at one lock file, every POLL_S."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: Seen | None = None
        self._looked = clock.now()
        self.quiet_s = 0.0
        self.has_beaten = False

    def look(self, seen: Seen) -> None:
        """Count the time since the last look, unless something moved in it.

        A long gap between two looks means that we slept ourselves (a stopped process, a frozen
        machine). The holder may have too, so a gap counts for no more than two polls.
        """
        now = self._clock.now()
        gap, self._looked = now - self._looked, now
        if self._seen == seen:
            self.quiet_s += min(gap, 2 * POLL_S)
            return
        self.has_beaten = self._seen is not None and self._seen.is_same_lock(seen)
        self._seen, self.quiet_s = seen, 0.0
