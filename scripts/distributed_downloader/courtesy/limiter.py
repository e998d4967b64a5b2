"""When a request may go: an even pace, whose bound holds in any window of time.

A bucket of `burst` tokens that fills with `rate`; each request takes one at the moment it leaves.
It starts empty, also after a restart and after a block: the first request goes one interval later,
so that what an earlier process sent just before is not added to.

The bound, for any window of W seconds and any lateness of the caller: rate x W + burst.

An event loop is late for its timers, and with a burst of 1 what is late is lost. So turns are given
by a lenient bucket, which catches up with an even grid, and a strict one decides when they leave.
"""

import math

LATENESS_S = 0.02  # what a busy event loop is late at most, nearly always
MAX_SLACK = 0.5
_EPSILON = 1e-6  # of a request: float dust, which no timer can wait for


def capacity(rate: float, burst: int, *, is_lenient: bool = False) -> float:
    """Requests that may come at once, after a pause; a lenient bucket forgives some lateness."""
    is_forgiving = is_lenient and burst == 1
    return burst + (min(MAX_SLACK, rate * LATENESS_S) if is_forgiving else 0.0)


def most_requests(window_s: float, rate: float, burst: int) -> int:
    """The most requests that any window of this length can show: what an audit holds a peak to."""
    return math.floor(rate * window_s + burst + 1e-6)


class Limiter:
    """The pace of one group. Knows no clock: `now` (seconds) comes with each question.

    With rates that change the bound is the integral of the rate over the window, plus the largest
    capacity in it: what has been saved at one rate is never counted again at another.
    """

    def __init__(self, rate: float, burst: int, now: float, *, is_lenient: bool = False) -> None:
        self._rate = rate
        self._burst = burst
        self._is_lenient = is_lenient
        self._tokens = 0.0
        self._at = now  # _tokens is what there was at this time

    @property
    def rate(self) -> float:
        """Requests per second, as set."""
        return self._rate

    def delay_s(self, now: float) -> float:
        """Seconds until a request may be sent, if none is sent before."""
        missing = 1.0 - self._tokens_at(now)
        if missing <= _EPSILON:
            return 0.0
        return missing / self._rate + max(0.0, self._at - now)

    def take(self, now: float) -> None:
        """Count a request that is sent now, when `delay_s` is 0."""
        self._settle(now)
        self._tokens -= 1.0

    def set_rate(self, rate: float, burst: int, now: float) -> None:
        """Go on at another rate, from now; what was saved is cut to the new capacity."""
        self._settle(now)
        self._rate, self._burst = rate, burst
        self._tokens = min(self._tokens, self._capacity)

    def empty(self, until: float) -> None:
        """Nothing may go until then (a block), and then it starts as it did at first."""
        self._tokens = min(self._tokens, 0.0)
        self._at = max(self._at, until)

    @property
    def _capacity(self) -> float:
        return capacity(self._rate, self._burst, is_lenient=self._is_lenient)

    def _settle(self, now: float) -> None:
        self._tokens = self._tokens_at(now)
        self._at = max(self._at, now)

    def _tokens_at(self, now: float) -> float:
        grown = self._tokens + self._rate * max(0.0, now - self._at)
        return min(grown, self._capacity)
