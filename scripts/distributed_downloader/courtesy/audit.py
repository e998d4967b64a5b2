"""What a wave can prove about one group: exact peaks and counts, in bounded memory."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed_downloader.courtesy.backoff import REFUSALS
from distributed_downloader.courtesy.limiter import most_requests


class Peak:
    """The most requests in any window of `window_s` (half-open), counted as they are sent."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._sent: deque[float] = deque()  # no more than the limit allows in a window
        self.most = 0

    def sent(self, now: float) -> None:
        """Count a request; times never go backwards."""
        self._sent.append(now)
        while now - self._sent[0] >= self._window_s:
            self._sent.popleft()
        self.most = max(self.most, len(self._sent))


@dataclass(slots=True)
class Tallies:
    """What was counted of a group in a wave."""

    requests: int = 0
    answers: int = 0
    images: int = 0  # answers with status 200
    refusals: int = 0
    blocks: int = 0
    bytes: int = 0
    latency_sum_s: float = 0.0
    last_request: float = 0.0  # unix seconds
    peak_1s: Peak = field(default_factory=lambda: Peak(1.0))
    peak_10s: Peak = field(default_factory=lambda: Peak(10.0))

    def turn(self, wall: float) -> None:
        """A request has its turn."""
        self.requests += 1
        self.last_request = wall

    def sent(self, now: float) -> None:
        """It leaves."""
        self.peak_1s.sent(now)
        self.peak_10s.sent(now)

    def heard(self, status: int, latency_s: float, nbytes: int) -> None:
        """An answer came."""
        self.answers += 1
        self.images += status == 200
        self.refusals += status in REFUSALS
        self.bytes += nbytes
        self.latency_sum_s += latency_s

    @property
    def mean_bytes(self) -> float:
        """Of an answer."""
        return self.bytes / self.answers if self.answers else 0.0

    def columns(self) -> dict[str, Any]:
        """The part of a LEARNED row that is counted here."""
        return {
            "requests": self.requests,
            "images": self.images,
            "refusals": self.refusals,
            "blocks": self.blocks,
            "peak_1s": self.peak_1s.most,
            "peak_10s": self.peak_10s.most,
            "bytes": self.bytes,
            "latency_s": self.latency_sum_s / self.answers if self.answers else None,
            "mean_bytes": self.mean_bytes if self.answers else None,
            "last_request": self.last_request,
        }


def over_budget(row: Mapping[str, Any]) -> str | None:
    """A sentence if a LEARNED row's peaks are over its own budget, else None.

    A row without peaks asked for nothing.
    """
    for window_s, column in ((1.0, "peak_1s"), (10.0, "peak_10s")):
        if not row[column]:
            continue
        allowed = most_requests(window_s, row["limit"], row["burst"])
        if row[column] > allowed:
            return (
                f"{row['group']} was asked {row[column]} times within {window_s:g} s, "
                f"but its limit of {row['limit']:g}/s with burst {row['burst']} allows {allowed}."
            )
    return None
