"""What is known of groups and must outlive a rank: blocks, learned rates, bytes of the day.

Each rank keeps one file in its wave's folder and replaces it before a new block matters; nobody
else writes it. A later wave reads all of them: for each group the newest word holds, and the
longest block.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader.checksums import is_whole
from distributed_downloader.courtesy.backoff import CUT_OFF
from distributed_downloader.courtesy.groups import group_of
from distributed_downloader.courtesy.memory import Memory, merge_memories, regrouped
from distributed_downloader.durable import read_json, write_json
from distributed_downloader.paths import OutputPaths
from distributed_downloader.settings import Settings
from distributed_downloader.tables import LEARNED
from distributed_downloader.waves.left import LEARNED_NAME, Block

SUM_NAME = "memories.json"
PROFILE_FOLDER = "profile"  # of the schedules, beside the waves
AUDIT = "audit"  # the key beside a group's memory in a rank's file

_log = logging.getLogger(__name__)


def memory_file(folder: Path, rank: int) -> Path:
    """Where a rank keeps what it knows of its groups."""
    return folder / f"groups-{rank}.json"


def profile_file(paths: OutputPaths) -> Path:
    """A new one for each start of profile: what earlier ones proved stays."""
    folder = paths.schedules / PROFILE_FOLDER
    return memory_file(folder, len(list(folder.glob("groups-*.json"))))


def save_memories(
    file: Path, memories: Mapping[str, Memory], audits: Iterable[Mapping[str, Any]] = ()
) -> None:
    """Replace the rank's file, durably; `audits` are rows of tables.LEARNED, as they are so far."""
    so_far = {audit["group"]: {AUDIT: audit} for audit in audits}
    write_json(
        file,
        {group: memory.as_json() | so_far.get(group, {}) for group, memory in memories.items()},
    )


def read_audits(folder: Path) -> pl.DataFrame:
    """What a wave proves of its groups, as tables.LEARNED; of one that was killed, what it saved.

    That is what counts of a damaged table, too. `folder` is the wave's, or profile's.
    """
    learned = folder / LEARNED_NAME
    if learned.is_file():
        if is_whole(learned):
            return pl.read_parquet(learned, hive_partitioning=False)
        _log.warning("%s is damaged: what the ranks saved before counts", learned)
    audits = [
        memory[AUDIT]
        for file in sorted(folder.glob("groups-*.json"))
        for memory in (read_json(file) or {}).values()
        if AUDIT in memory
    ]
    return pl.DataFrame(audits, LEARNED)


def load_memories(settings: Settings) -> dict[str, Memory]:
    """Group -> what all ranks of all waves know of it, by the groups of today's settings.

    A wave that came to its end has summed up all before it; what is newer is read rank by rank, and
    what profile knows always: it may have run again.
    """
    folders = sorted(settings.paths.schedules.glob("*"), key=_age, reverse=True)
    known: dict[str, list[Memory]] = defaultdict(list)
    for folder in folders:
        for file in (*folder.glob("groups-*.json"), folder / SUM_NAME):
            for group, memory in (read_json(file) or {}).items():
                known[group].append(Memory.from_json(memory))
        if (folder / SUM_NAME).exists():
            break
    merged = (merge_memories(memories) for memories in known.values())
    return regrouped(merged, lambda server: group_of(server, settings.politeness))


def sum_up(settings: Settings, wave: int) -> dict[str, Memory]:
    """Write down what is known after a wave, so that nobody need read the older files again."""
    memories = load_memories(settings)
    save_memories(settings.paths.wave(wave) / SUM_NAME, memories)
    return memories


def _age(folder: Path) -> float:
    """The wave's number; profile comes first where the newest does."""
    return int(folder.name) if folder.name.isdigit() else math.inf


def blocks_of(memories: Mapping[str, Memory]) -> dict[str, Block]:
    """Group -> until when it is blocked, and why, for `left.json`."""
    return {
        group: Block(
            memory.rests_until,
            CUT_OFF if memory.cut_until > memory.blocked_until else memory.cause,
        )
        for group, memory in memories.items()
        if memory.rests_until
    }
