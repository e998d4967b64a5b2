"""When a request may go: an even pace, whose bound holds in any window of time.

A bucket of `capacity(rate, burst)` tokens that fills with `rate`; each request takes one at the
moment it is sent. It starts empty, also after a restart and after a block: the first request goes
one interval later, so that what an earlier process sent just before is not added to.

The bound, for any window of W seconds and any lateness of the caller:

    requests  <=  rate x W + capacity,   capacity = burst          (burst > 1)
                                         capacity = 1 + slack      (burst = 1)

    slack = min(1/2, rate x LATENESS_S)

The slack is what an event loop's lateness costs otherwise: a request that went late within its
interval is followed by the next one on time, never closer than interval - LATENESS_S (and never
closer than half an interval). For W of whole intervals it changes nothing: rate x W + burst.
"""

import math

LATENESS_S = 0.02  # what a busy event loop is late at most, nearly always
MAX_SLACK = 0.5
_EPSILON = 1e-9  # float dust


def capacity(rate: float, burst: int) -> float:
    """Requests that may come at once, after a pause."""
    return float(burst) if burst > 1 else 1.0 + min(MAX_SLACK, rate * LATENESS_S)


def most_requests(window_s: float, rate: float, burst: int) -> int:
    """The most requests that any window of this length can show: what an audit holds a peak to."""
    return math.floor(rate * window_s + capacity(rate, burst) + 1e-6)


class Limiter:
    """The pace of one group. Knows no clock: `now` (seconds) comes with each question.

    With rates that change the bound is the integral of the rate over the window, plus the largest
    capacity in it: what has been saved at one rate is never counted again at another.
    """

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
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
        self._tokens = min(self._tokens, capacity(rate, burst))

    def empty(self, until: float) -> None:
        """Nothing may go until then (a block), and then it starts as it did at first."""
        self._tokens = min(self._tokens, 0.0)
        self._at = max(self._at, until)

    def _settle(self, now: float) -> None:
        self._tokens = self._tokens_at(now)
        self._at = max(self._at, now)

    def _tokens_at(self, now: float) -> float:
        grown = self._tokens + self._rate * max(0.0, now - self._at)
        return min(grown, capacity(self._rate, self._burst))


class DoubleLimiter:
    """A pace by turns and by what goes out: a request may leave later than its turn was.

    Its connection is made first, the loop is busy: if the others did not keep their distance to
    when it really left, the server would see them bunched. Who never says `sent` goes by turns.
    """

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._turns, self._wire = Limiter(rate, burst, now), Limiter(rate, burst, now)

    def delay_s(self, now: float) -> float:
        """Seconds until a request may be sent, if none is sent before."""
        return max(self._turns.delay_s(now), self._wire.delay_s(now))

    def take(self, now: float) -> None:
        """Count a turn that is given now, when `delay_s` is 0."""
        self._turns.take(now)

    def sent(self, now: float) -> None:
        """Count a request that goes out now; its turn was before."""
        self._wire.take(now)

    def set_rate(self, rate: float, burst: int, now: float) -> None:
        """As `Limiter.set_rate`."""
        for limiter in (self._turns, self._wire):
            limiter.set_rate(rate, burst, now)

    def empty(self, until: float) -> None:
        """As `Limiter.empty`."""
        for limiter in (self._turns, self._wire):
            limiter.empty(until)
