"""What is known of groups and must outlive a rank: blocks, learned rates, bytes of the day.

Each rank keeps one file in its wave's folder and replaces it before a new block matters; nobody
else writes it. A later wave reads all of them: for each group the newest word holds, and the
longest block.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from distributed_downloader.courtesy import Memory, merge_memories
from distributed_downloader.durable import write_json
from distributed_downloader.left import Block
from distributed_downloader.paths import OutputPaths


def memory_file(folder: Path, rank: int) -> Path:
    """Where a rank keeps what it knows of its groups."""
    return folder / f"groups-{rank}.json"


def save_memories(file: Path, memories: Mapping[str, Memory]) -> None:
    """Replace the rank's file, durably."""
    write_json(file, {group: memory.as_json() for group, memory in memories.items()})


def load_memories(paths: OutputPaths) -> dict[str, Memory]:
    """Group -> what all earlier ranks of all earlier waves knew of it."""
    known: dict[str, list[Memory]] = defaultdict(list)
    for file in sorted(paths.schedules.glob("*/groups-*.json")):
        for group, memory in json.loads(file.read_text(encoding="utf-8")).items():
            known[group].append(Memory.from_json(memory))
    return {group: merge_memories(memories) for group, memories in known.items()}


def blocks_of(memories: Mapping[str, Memory]) -> dict[str, Block]:
    """Group -> until when it is blocked, and why, for `left.json`."""
    return {
        group: Block(memory.blocked_until, memory.cause)
        for group, memory in memories.items()
        if memory.blocked_until
    }
