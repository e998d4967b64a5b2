"""A partition's shards, written one after the other; what is written already stays.

The notes are the tool's own: a JSON file for each partition, with what each shard holds. A shard
is noted after it is whole, so a kill costs the one that was being written.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from distributed_downloader.durable import read_json, write_json
from distributed_downloader.exports.blocks import (
    BLOCK_BYTES,
    Block,
    Describe,
    blocks,
    cut,
    sizes_of,
)
from distributed_downloader.exports.targets import Sink, Target, batch_name
from distributed_downloader.paths import Batch

INDEX = "shards.json"

Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Shard:
    """One file (or folder) of an export."""

    name: str
    images: int
    bytes: int  # of the file; of a folder: of its images
    content: str  # hash of what it was made from


@dataclass(frozen=True, slots=True)
class ShardFormat:
    """What a shard is: its ending, and how one is written from described blocks of this size."""

    suffix: str
    write: Callable[[Sink, Iterable[Block]], int]
    describe: Describe
    block_bytes: int = BLOCK_BYTES


class Notes:
    """What lies in the target, by partition."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, batch: Batch) -> Path:
        return self._folder / f"{batch.folder}.json"

    def read(self, batch: Batch) -> list[Shard]:
        """The shards of a partition; none if it has not been begun."""
        return [Shard(**told) for told in read_json(self._file(batch)) or []]

    def write(self, batch: Batch, shards: Iterable[Shard]) -> None:
        """Note what is there, durably."""
        write_json(self._file(batch), [asdict(shard) for shard in shards])

    def forget(self, batch: Batch) -> None:
        """The partition has nothing there any more."""
        self._file(batch).unlink(missing_ok=True)

    def batches(self) -> list[Batch]:
        """The partitions that something is noted of."""
        return sorted(
            Batch.from_folder(file.with_suffix("")) for file in self._folder.glob("*/*.json")
        )


def write_shards(
    form: ShardFormat, target: Target, notes: Notes, images: "PartitionImages", most_bytes: int
) -> int:
    """Write what is missing of a partition's shards; the number of images in all of them.

    Before the first that is written, what a killed job left half written goes.
    """
    batch = images.batch
    before = {shard.name: shard for shard in notes.read(batch)}
    done: dict[str, Shard] = {}
    has_written = False
    for number, rows in enumerate(cut(sizes_of(images.folder, images.rows), most_bytes)):
        name = f"{batch_name(batch)}-{number:03}.{form.suffix}"
        content = content_of(rows)
        shard = before.get(name)
        if shard is None or shard.content != content or target.size(name) != shard.bytes:
            if not has_written:
                target.remove_orphans(batch)
            has_written = True
            with target.whole(name) as sink:
                count = form.write(sink, images.blocks(rows, form.describe, form.block_bytes))
            shard = Shard(name, count, target.size(name) or 0, content)
            notes.write(batch, {**before, **done, name: shard}.values())
        else:
            images.tick(shard.images)
        done[name] = shard
    for name in before.keys() - done.keys():
        target.remove(name)
    if notes.read(batch) != list(done.values()):  # a sync costs as much as some megabytes
        notes.write(batch, done.values())
    return sum(shard.images for shard in done.values())


@dataclass(frozen=True, slots=True)
class PartitionImages:
    """The images of a partition that are exported; `tick` is told of each block, and may raise."""

    batch: Batch
    folder: Path  # of the partition's shards and tables
    rows: pl.DataFrame  # tables.SUCCESSES
    tick: Tick

    def blocks(
        self, rows: pl.DataFrame, describe: Describe, block_bytes: int = BLOCK_BYTES
    ) -> Iterator[Block]:
        """These images, read in large blocks."""
        for block in blocks(self.folder, rows, describe, block_bytes):
            yield block
            self.tick(len(block.rows))


def content_of(rows: pl.DataFrame) -> str:
    """What these rows would be exported as: another image, row or order gives another word."""
    told = pl.concat_str(
        "uuid", "hashsum_resized", pl.col("fetched_at").to_physical(), separator=" "
    )
    text = rows.select(told.str.join("\n")).item()
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def write_index(target: Target, notes: Notes, kept: Iterable[Batch]) -> dict[str, int]:
    """Remove what belongs to no kept partition any more, and say in shards.json what is there.

    Returns the counts: shards, images, bytes.
    """
    kept = sorted(kept)
    for batch in set(notes.batches()) - set(kept):
        for shard in notes.read(batch):
            target.remove(shard.name)
        notes.forget(batch)
    shards = [shard for batch in kept for shard in notes.read(batch)]
    counts = {
        "shards": len(shards),
        "images": sum(shard.images for shard in shards),
        "bytes": sum(shard.bytes for shard in shards),
    }
    told = [{"name": s.name, "images": s.images, "bytes": s.bytes} for s in shards]
    target.write_json(INDEX, {**counts, "files": told})
    return counts
