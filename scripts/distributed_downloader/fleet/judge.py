"""Reads the fleet's access logs and judges whether a client was polite, to the single request."""

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

ACCESS = pl.Schema(  # as access_log.Access says
    {
        "time": pl.Float64,
        "monotonic": pl.Float64,
        "host": pl.String,
        "group": pl.String,
        "address": pl.String,
        "method": pl.String,
        "path": pl.String,
        "status": pl.Int32,
        "user_agent": pl.String,
        "bytes": pl.Int64,
        "connections": pl.Int64,
    }
)

ROUNDING = 1e-6  # requests; what arithmetic on clocks may add


def read_log(path: Path) -> pl.DataFrame:
    """All whole lines, ordered by `monotonic`; no rows if there is no such file."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    records = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return pl.DataFrame(records, schema=ACCESS, orient="row").sort("monotonic")


def times_by(log: pl.DataFrame, by: str = "host") -> dict[str, list[float]]:
    """The sorted arrival times (monotonic seconds) of each `host` or `group`."""
    grouped = log.sort("monotonic").group_by(by, maintain_order=True).agg("monotonic")
    return {str(name): times for name, times in grouped.iter_rows()}


def peak(times: Sequence[float], window_s: float) -> int:
    """Most of these sorted times in any window [t, t + window_s)."""
    most, window = 0, deque[float]()
    for time in times:
        window.append(time)
        while time - window[0] >= window_s:
            window.popleft()
        most = max(most, len(window))
    return most


def peak_requests(log: pl.DataFrame, window_s: float = 1.0, by: str = "host") -> dict[str, int]:
    """Most requests in any window of this length, for each `host` or `group`."""
    return {name: peak(times, window_s) for name, times in times_by(log, by).items()}


@dataclass(frozen=True, slots=True)
class Excess:
    """A window in which more was asked than rate x window + burst."""

    window_s: float
    requests: int
    allowed: float


def exceeds(
    times: Iterable[float], rate: float, burst: float, windows: Sequence[float] | None = None
) -> list[Excess]:
    """The broken windows, one for each length asked, worst of its length; none = polite.

    Without `windows`, every window of any length is judged (exactly, and strictly: two requests
    that a busy machine sees at the same instant need a burst of 2), and the worst one is told.
    """
    times = sorted(times)
    if windows is None:
        window_s, requests = _worst(times, rate)
        found = [Excess(window_s, requests, rate * window_s + burst)]
    else:
        found = [Excess(w, peak(times, w), rate * w + burst) for w in windows]
    return [excess for excess in found if excess.requests > excess.allowed + ROUNDING]


def burst_needed(times: Iterable[float], rate: float) -> float:
    """The smallest burst with which these times keep to this rate over every window."""
    window_s, requests = _worst(sorted(times), rate)
    return requests - rate * window_s


def _worst(times: Sequence[float], rate: float) -> tuple[float, int]:
    """Length and requests of the closed window that lies furthest above rate x its length.

    Of all i <= j, the largest (j + 1 - rate x t_j) - (i - rate x t_i): one pass.
    """
    least, start, most, worst = float("inf"), 0, 0.0, (0.0, 0)
    for j, time in enumerate(times):
        if j - rate * time < least:
            least, start = j - rate * time, j
        over = j + 1 - rate * time - least
        if over > most:
            most, worst = over, (time - times[start], j + 1 - start)
    return worst
