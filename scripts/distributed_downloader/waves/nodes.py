"""Nodes are precious: how many hours of them a wave used, and when a smaller one should go on.

A rank whose servers are all done waits, and so does its node. A wave ends early when

1. the ranks that still work would fit on half of its nodes, or fewer, and
2. at the pace of the last minute they would go on for longer than `idle_nodes_s`, which should be
   more than a smaller wave costs (a queue, a start, a plan), and
3. the wave itself has gone on for as long, so that waves do not chase each other.
"""

import math
import os
import resource
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from distributed_downloader.waves.news import Tally

PACE_S = 60.0  # over how long a pace is measured, at most
_LOOK_S = 5.0


def this_node() -> str:
    """The node's name; nodes that are played on one machine share its host name."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def peak_mb() -> int:
    """Megabytes that this process has held at most (Linux counts in units of 1,024 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6


@dataclass(frozen=True, slots=True)
class NodeHours:
    """What a wave cost; `idle` is the part in which no rank of a node had anything to do."""

    nodes: int
    used: float
    idle: float


def node_hours(ranks: Iterable[tuple[str, float]], seconds: float) -> NodeHours:
    """Of ranks as (node, seconds until its work was done) in a wave of so many seconds."""
    worked: dict[str, float] = {}
    for node, worked_s in ranks:
        worked[node] = max(worked.get(node, 0.0), worked_s)
    idle_s = sum(max(0.0, seconds - worked_s) for worked_s in worked.values())
    return NodeHours(len(worked), len(worked) * seconds / 3600, idle_s / 3600)


def should_end(left_s: Mapping[int, float], nodes: int, idle_nodes_s: float) -> bool:
    """Rules 1 and 2; `left_s` of every rank, 0 for those that are done."""
    working = sum(seconds > 0 for seconds in left_s.values())
    per_node = math.ceil(len(left_s) / nodes)
    needed = math.ceil(working / per_node)
    return 0 < needed <= nodes / 2 and max(left_s.values()) > idle_nodes_s


class Watch:
    """Rank 0's view of all ranks over time."""

    def __init__(self, idle_nodes_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_nodes_s = idle_nodes_s
        self._pace_s = min(PACE_S, idle_nodes_s)
        self._clock = clock
        self._began = clock()
        self._looks: deque[tuple[float, dict[int, int]]] = deque()

    def should_end(self, ranks: Mapping[int, Tally], size: int) -> bool:
        """Whether the wave should end now; `ranks` are those that were heard of."""
        now = self._clock()
        if not self._looks or now - self._looks[-1][0] >= _LOOK_S:
            self._looks.append((now, {rank: done.settled for rank, done in ranks.items()}))
        while len(self._looks) > 1 and now - self._looks[1][0] >= self._pace_s:
            self._looks.popleft()
        then, settled = self._looks[0]
        if len(ranks) < size or now - self._began < self._idle_nodes_s:
            return False
        if now - then < self._pace_s:
            return False
        left_s = {
            rank: _left_s(done, settled.get(rank, 0), now - then) for rank, done in ranks.items()
        }
        nodes = len({done.node for done in ranks.values()})
        return should_end(left_s, nodes, self._idle_nodes_s)


def _left_s(done: Tally, settled_before: int, seconds: float) -> float:
    """At its pace since then; who stands still, needs for ever."""
    left = done.total - done.settled
    if left <= 0:
        return 0.0
    pace = (done.settled - settled_before) / seconds
    return left / pace if pace > 0 else math.inf
