"""`left.json`: the live state that the wave loop asks, and a person may.

It is derived: verify, tools and a wave's rank 0 write it anew from what they counted.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from distributed_downloader.courtesy.backoff import CUT_OFF
from distributed_downloader.courtesy.ignored import read_ignored
from distributed_downloader.durable import write_json
from distributed_downloader.errors import ConfigError
from distributed_downloader.lists.generations import Generation
from distributed_downloader.paths import OutputPaths
from distributed_downloader.settings import Settings

LEARNED_NAME = "learned.parquet"


@dataclass(frozen=True, slots=True)
class LeftRows:
    """Rows of one group that have no final state."""

    pending: int = 0
    retryable: int = 0
    servers: frozenset[str] = frozenset()  # to be asked for them, as far as somebody looked
    targets: frozenset[str] = frozenset()  # those of them that only redirects lead to

    @property
    def rows(self) -> int:
        """Both."""
        return self.pending + self.retryable

    def plus(self, other: "LeftRows") -> "LeftRows":
        """Those of both, whatever servers are to be asked."""
        return LeftRows(self.pending + other.pending, self.retryable + other.retryable)


@dataclass(frozen=True, slots=True)
class Block:
    """A group that asked for quiet, or that does not answer."""

    blocked_until: float  # unix seconds
    cause: str


Blocks = Mapping[str, Block]  # by group


def no_blocks() -> Blocks:
    """What is said when nobody knows of a block."""
    return {}


def write_left(
    paths: OutputPaths,
    left: Mapping[str, LeftRows],
    blocks: Blocks,
    *,
    rules: str = "",
    waves: int | None = None,
    now: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """Write and return left.json; `left` by group, `waves` the finished ones (None: count them).

    `rules` say by what else than the files it was counted (`rules_of_today`).
    `groups` names the blocked groups that have rows left, `free_at` is when the first group with
    rows left may be asked: 0 if one may be asked now, or if nothing is left.
    """
    written = now()
    waiting = {group: rows for group, rows in left.items() if rows.rows}
    blocked = {
        group: blocks[group]
        for group in waiting
        if group in blocks and blocks[group].blocked_until > written
    }
    all_wait = bool(waiting) and len(blocked) == len(waiting)
    value = {
        "left": sum(rows.rows for rows in waiting.values()),
        "pending": sum(rows.pending for rows in waiting.values()),
        "retryable": sum(rows.retryable for rows in waiting.values()),
        "groups": {
            group: {
                "left": waiting[group].rows,
                "blocked_until": block.blocked_until,
                "cause": block.cause,
            }
            for group, block in sorted(blocked.items())
        },
        "free_at": min(block.blocked_until for block in blocked.values()) if all_wait else 0,
        "cut_off": any(block.cause == CUT_OFF for block in blocked.values()),
        "waves": finished_waves(paths) if waves is None else waves,
        "written": written,
        "rules": rules,
    }
    write_json(paths.left, value)
    return value


def rules_of_today(settings: Settings) -> str:
    """What a person may change between two runs so that other rows are left: a word for it."""
    try:
        ignored = sorted(read_ignored(settings.paths.ignored_table))
    except ConfigError:
        return "unreadable"  # whoever counts next will say so
    generation = Generation.of(settings.paths).number
    said = json.dumps([settings.retries_waves, ignored, generation, settings.retry_failed])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def finished_waves(paths: OutputPaths) -> int:
    """Waves that came to their end and said what they learned."""
    return sum(1 for _ in paths.schedules.glob(f"[0-9]*/{LEARNED_NAME}"))
