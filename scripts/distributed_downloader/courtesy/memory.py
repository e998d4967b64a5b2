"""What must outlive a process, for one group: as JSON on the disk, in wall-clock time."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from distributed_downloader.courtesy.allowance import Bins
from distributed_downloader.courtesy.backoff import GroupState
from distributed_downloader.courtesy.budgets import Backoff


@dataclass(frozen=True, slots=True)
class Memory:
    """Times in unix seconds, 0 = never; rates in requests per second, 0 = unknown."""

    group: str
    written: float = 0.0
    blocked_until: float = 0.0  # by a refusal, the hours or the bytes: for the plan
    refused_until: float = 0.0  # by a refusal alone, also when it is past
    block_s: float = 0.0  # what the next doubling starts from
    cause: str = ""
    accepted: int = 0  # answers since the last block
    rate: float = 0.0  # learned after a refusal
    proven: float = 0.0
    refused: float = 0.0
    mean_bytes: float = 0.0  # of an answer
    last_request: float = 0.0
    hour_bytes: Bins = ()
    day_bytes: Bins = ()
    bytes_owed: float = 0.0  # by `bytes_per_s`, when this was written
    servers: tuple[str, ...] = ()  # that were asked as this group
    robots_at: tuple[str, ...] = ()  # of other groups, to whom their robots.txt redirect
    witness: str = ""  # the last of them that answered
    answered: float = 0.0  # when it did
    cut_until: float = 0.0  # nobody was there: asked again then, or when somebody is
    silent_s: float = 0.0  # how long that rest is

    def as_json(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Memory":
        """The inverse; fields of another version are ignored, missing ones unknown."""
        known = {field.name for field in fields(cls)}
        memory = cls(**{name: item for name, item in value.items() if name in known})
        return replace(
            memory,
            hour_bytes=tuple((int(n), int(size)) for n, size in memory.hour_bytes),
            day_bytes=tuple((int(n), int(size)) for n, size in memory.day_bytes),
            servers=tuple(memory.servers),
            robots_at=tuple(memory.robots_at),
        )

    @property
    def rests_until(self) -> float:
        """By whatever cause."""
        return max(self.blocked_until, self.cut_until)

    def owed(self, wall: float, bytes_per_s: float | None) -> float:
        """Bytes of the debt that are left by now."""
        return max(0.0, self.bytes_owed - max(0.0, wall - self.written) * (bytes_per_s or 0.0))

    @property
    def learned(self) -> tuple[float, float, float] | None:
        """(rate, proven, refused), if a refusal taught anything."""
        if self.rate <= 0 or self.refused <= 0:
            return None
        return self.rate, self.proven, self.refused

    def group_state(self, now: float, wall: float, backoff: Backoff) -> GroupState:
        """The block, on a monotonic clock; a wall clock gone wrong blocks for `max_s` at most."""
        if self.refused_until <= 0:
            return GroupState()
        until = now + min(self.refused_until - wall, backoff.max_s)
        return GroupState(until, self.block_s, self.cause, self.accepted)


def merge_memories(memories: Iterable[Memory]) -> Memory:
    """One of several of the same group: the newest word, the longest block, all bytes.

    Raises ValueError if there is none.
    """
    by_age = sorted(memories, key=lambda memory: memory.written)
    newest, longest = by_age[-1], max(by_age, key=lambda memory: memory.refused_until)
    return replace(
        newest,
        blocked_until=max(memory.blocked_until for memory in by_age),
        refused_until=longest.refused_until,
        block_s=longest.block_s if longest.refused_until > newest.refused_until else newest.block_s,
        cause=longest.cause or newest.cause,
        last_request=max(memory.last_request for memory in by_age),
        hour_bytes=_most(memory.hour_bytes for memory in by_age),
        day_bytes=_most(memory.day_bytes for memory in by_age),
        servers=tuple(sorted({server for memory in by_age for server in memory.servers})),
        robots_at=tuple(sorted({server for memory in by_age for server in memory.robots_at})),
    )


def regrouped(memories: Iterable[Memory], group_of: Callable[[str], str]) -> dict[str, Memory]:
    """By today's groups: what is known of a group holds wherever its servers are now.

    One whose servers are not known keeps its name. Bytes of groups that became one add up.
    """
    found: dict[str, list[Memory]] = {}
    for memory in memories:
        parts: dict[str, list[str]] = {}
        for server in memory.servers:
            parts.setdefault(group_of(server), []).append(server)
        for group, servers in (parts or {memory.group: []}).items():
            part = replace(memory, group=group, servers=tuple(servers))
            found.setdefault(group, []).append(part)
    return {group: _joined(parts) for group, parts in found.items()}


def _joined(parts: list[Memory]) -> Memory:
    return replace(
        merge_memories(parts),
        hour_bytes=_sum(memory.hour_bytes for memory in parts),
        day_bytes=_sum(memory.day_bytes for memory in parts),
    )


def _most(many: Iterable[Bins]) -> Bins:
    """Each bin's largest count: a later wave's memory holds what an earlier one counted."""
    bins: dict[int, int] = {}
    for one in many:
        for number, size in one:
            bins[number] = max(size, bins.get(number, 0))
    return tuple(sorted(bins.items()))


def _sum(many: Iterable[Bins]) -> Bins:
    bins: Counter[int] = Counter()
    for one in many:
        bins.update(dict(one))
    return tuple(sorted(bins.items()))
