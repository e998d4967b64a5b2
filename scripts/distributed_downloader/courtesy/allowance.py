"""Budgets other than requests per second: bytes per second, hour and day, and hours of the day.

What an answer weighs is known only when it is there. So bytes per second are a debt that is paid
off before the next request; for the windows the mean of what came so far stands for each request
under way. Windows count in bins of wall-clock time, so that they survive a restart.
"""

from distributed_downloader.courtesy.budgets import Budget
from distributed_downloader.courtesy.hours import DAY_S, Hours

HOUR_S = 3600.0
BINS = 60  # per window
CREDIT_S = 1.0  # of bytes_per_s that may have been saved up: the time an answer takes


Bins = tuple[tuple[int, int], ...]  # (number of the bin, bytes)


class Allowance:
    """All of these for one group; `used` are its bins of the hour and of the day, `owed` bytes."""

    def __init__(
        self, budget: Budget, used: tuple[Bins, Bins], now: float, owed: float = 0.0
    ) -> None:
        self._hours = budget.hours
        self._debt = ByteDebt(budget.bytes_per_s, now, owed)
        self._hour = ByteWindow(budget.bytes_per_hour, HOUR_S, used[0])
        self._day = ByteWindow(budget.bytes_per_day, DAY_S, used[1])

    def received(self, nbytes: int, now: float, wall: float) -> None:
        """Count what came."""
        self._debt.received(nbytes, now)
        self._hour.received(nbytes, wall)
        self._day.received(nbytes, wall)

    def debt_s(self, now: float) -> float:
        """Seconds until bytes_per_s allow the next request."""
        return self._debt.delay_s(now)

    def closed(self, expected: float, wall: float) -> list[tuple[float, str]]:
        """(seconds, cause) of what keeps the whole group waiting; `expected` as in ByteWindow."""
        return [
            (closed_for_s(self._hours, wall), "outside its hours"),
            (self._hour.delay_s(expected, wall), "bytes_per_hour used up"),
            (self._day.delay_s(expected, wall), "bytes_per_day used up"),
        ]

    def owed(self, now: float) -> float:
        """Bytes that are not paid off: for the disk, or for another budget."""
        return self._debt.owed(now)

    def used(self, wall: float) -> tuple[Bins, Bins]:
        """For the disk."""
        return self._hour.bins(wall), self._day.bins(wall)


class ByteDebt:
    """Bytes per second: over any W seconds at most rate x (W + 1) and what was under way."""

    def __init__(self, bytes_per_s: float | None, now: float, owed: float = 0.0) -> None:
        self._rate = bytes_per_s
        self._paid_at = now + (owed / bytes_per_s if bytes_per_s else 0.0)

    def received(self, nbytes: int, now: float) -> None:
        """Add to the debt."""
        if self._rate is not None:
            self._paid_at = max(self._paid_at, now - CREDIT_S) + nbytes / self._rate

    def delay_s(self, now: float) -> float:
        """Seconds until the debt is paid off."""
        return max(0.0, self._paid_at - now)

    def owed(self, now: float) -> float:
        """The debt in bytes."""
        return self.delay_s(now) * (self._rate or 0.0)


class ByteWindow:
    """Bytes in any window of `span_s`: rolling, in bins; a bin counts until it is wholly past."""

    def __init__(self, limit: float | None, span_s: float, bins: Bins = ()) -> None:
        self._limit = limit
        self._bin_s = span_s / BINS
        self._bins = dict(bins)

    def received(self, nbytes: int, wall: float) -> None:
        """Count what came at this time (unix seconds)."""
        number = int(wall // self._bin_s)
        if self._limit is not None and nbytes:
            self._bins[number] = self._bins.get(number, 0) + nbytes
            self._drop_old(number)

    def delay_s(self, expected: float, wall: float) -> float:
        """Seconds until `expected` more bytes (of all requests under way and the next) have room.

        A single answer that is larger than the budget goes when the window is empty.
        """
        if self._limit is None:
            return 0.0
        self._drop_old(int(wall // self._bin_s))
        used = sum(self._bins.values())
        free_at = wall
        for oldest in sorted(self._bins):
            if used + expected <= self._limit:
                break
            used -= self._bins[oldest]
            free_at = (oldest + BINS + 1) * self._bin_s
        return max(0.0, free_at - wall)

    def bins(self, wall: float) -> Bins:
        """(number of the bin, bytes), for the disk."""
        self._drop_old(int(wall // self._bin_s))
        return tuple(sorted(self._bins.items()))

    def _drop_old(self, number: int) -> None:
        for old in [bin_ for bin_ in self._bins if bin_ < number - BINS]:
            del self._bins[old]


def closed_for_s(hours: Hours, wall: float) -> float:
    """Seconds until the next of the hours begins (seconds of the UTC day), 0 within one."""
    second = wall % DAY_S
    if not hours or any(start <= second < end for start, end in hours):
        return 0.0
    return min((start - second) % DAY_S for start, _ in hours)
