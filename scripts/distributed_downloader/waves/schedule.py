"""Which rank asks which group in a wave, how many ranks are of use, and how long it will take.

In a wave a group belongs to exactly one rank, together with those that hold its robots.txt. A rank
asks all its groups at once, so its time is the longest of two things: the slowest of its groups
(rows / rate, which more ranks cannot shorten), and the work of all its images (which they can).
"""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from distributed_downloader.paths import Batch

IMAGE_WORK_S = 0.02  # CPU seconds to fetch, decode, encode and write one image, on the safe side
CLOSE_ENOUGH = 1.05  # more nodes must bring more than this to be asked for


@dataclass(frozen=True, slots=True)
class GroupWork:
    """What is left of one group: the unit that is given to a rank."""

    group: str
    rows: int
    rate_limit: float  # requests per second of the whole group: its budget
    rate: float  # requests per second it is expected to take: learned, at most the limit
    blocked_s: float = 0.0  # seconds until it may be asked again
    mean_bytes: float | None = None
    batches: Mapping[Batch, int] = field(default_factory=dict)  # rows left of each
    servers: Mapping[Batch, Sequence[str]] = field(default_factory=dict)  # to be asked for each
    robots_at: frozenset[str] = frozenset()  # other groups, to which its robots.txt redirect

    @property
    def lower_bound_s(self) -> float:
        """Seconds that politeness alone costs."""
        return self.rows / self.rate_limit

    @property
    def predicted_s(self) -> float:
        """Seconds it is expected to take, its block included."""
        return self.blocked_s + self.rows / self.rate


@dataclass(frozen=True, slots=True)
class Plan:
    """Groups per rank, and what to expect of it."""

    ranks: Sequence[Sequence[GroupWork]]
    nodes: int
    predicted_s: float
    lower_bound_s: float
    bound_group: str | None

    @property
    def robots_owners(self) -> dict[str, int]:
        """Group -> rank, of those whose servers hold another's robots.txt, with rows or without."""
        return {
            group: rank
            for rank, groups in enumerate(self.ranks)
            for planned in groups
            for group in planned.robots_at
        }


@dataclass(frozen=True, slots=True)
class Machine:
    """What a wave may use at most."""

    nodes: int
    workers_per_node: int
    cpu_per_worker: int


def plan_wave(work: Iterable[GroupWork], machine: Machine) -> Plan:
    """The fewest nodes that come close to what all would reach; no rank without a group."""
    groups = sorted(work, key=lambda group: (-group.predicted_s, group.group))
    if not groups:
        return Plan((), 0, 0.0, 0.0, None)
    best = _seconds(_spread(groups, machine, machine.nodes), machine)
    for nodes in range(1, machine.nodes + 1):
        ranks = _spread(groups, machine, nodes)
        predicted_s = _seconds(ranks, machine)
        if predicted_s <= best * CLOSE_ENOUGH:
            break
    bound = max(groups, key=lambda group: group.lower_bound_s)
    nodes = math.ceil(len(ranks) / machine.workers_per_node)
    return Plan(ranks, nodes, predicted_s, bound.lower_bound_s, bound.group)


def _spread(groups: Sequence[GroupWork], machine: Machine, nodes: int) -> list[list[GroupWork]]:
    """Longest first, each to the rank with the least work so far (Graham 1969, LPT)."""
    bundles = _bundles(groups)
    count = min(nodes * machine.workers_per_node, len(bundles))
    ranks: list[list[GroupWork]] = [[] for _ in range(count)]
    load = [(0, 0, rank) for rank in range(count)]  # rows, groups, rank: a heap
    for bundle in bundles:
        rows, held, rank = load[0]
        ranks[rank] += bundle
        more = sum(group.rows for group in bundle)
        heapq.heapreplace(load, (rows + more, held + len(bundle), rank))
    return ranks


def _bundles(groups: Sequence[GroupWork]) -> list[list[GroupWork]]:
    """Groups that one rank must ask, since one's robots.txt is at another's server; most alone."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while name in parents:
            name = parents[name]
        return name

    for group in groups:
        for other in group.robots_at:
            if root(other) != root(group.group):
                parents[root(other)] = root(group.group)
    bundles: dict[str, list[GroupWork]] = {}
    for group in groups:
        bundles.setdefault(root(group.group), []).append(group)
    return list(bundles.values())


def _seconds(ranks: Sequence[Sequence[GroupWork]], machine: Machine) -> float:
    slowest_s = max(group.predicted_s for rank in ranks for group in rank)
    most_rows = max(sum(group.rows for group in rank) for rank in ranks)
    return max(slowest_s, most_rows * IMAGE_WORK_S / machine.cpu_per_worker)
