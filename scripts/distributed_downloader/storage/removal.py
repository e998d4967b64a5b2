"""Taking images out of a batch, putting them back, and reclaiming their bytes for good.

A removal moves rows from successes.parquet to removed.parquet, where the shard and the place in it
stay noted: nothing of the shard is touched, so that a removal can be undone. `compact_batch` copies
what is left of such shards into new ones; what it reclaimed cannot be restored, and is still known.

All of them take away `completed` before they write: what a kill leaves is tidied by consolidation,
which puts it back.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from distributed_downloader.durable import crash_point
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.storage.batch_files import (
    COMPLETED_NAME,
    REMOVED_NAME,
    SUCCESSES_NAME,
    BatchFiles,
)
from distributed_downloader.storage.batch_tables import Allowed, read_metadata, write_table
from distributed_downloader.storage.shards import move_images
from distributed_downloader.tables import REMOVED, SUCCESSES

_HAS_BYTES = pl.col("file").is_not_null()


def remove_images(
    batch: Batch, paths: OutputPaths, which: pl.DataFrame, *, allowed: Allowed
) -> int:
    """Move rows of a consolidated batch to removed.parquet; how many were moved.

    `which`: uuid, tool, reason, refetch. With `refetch` the row becomes pending again. The removal
    counts from the moment removed.parquet is written; a kill after that leaves nothing to repair.
    """
    folder = paths.batch_images(batch)
    look = BatchFiles.of(folder)
    marks = which.lazy().select("uuid", "tool", "reason", "refetch").unique("uuid")
    images = look.images()
    leaving = images.join(marks, on="uuid", how="inner", maintain_order="left").collect()
    if leaving.is_empty():
        return 0
    reopen(folder, allowed)
    before = look.removed().collect().join(leaving, on="uuid", how="anti")
    table = pl.concat([before, leaving.select(before.columns)])
    write_table(folder / REMOVED_NAME, table.lazy(), {}, allowed)
    crash_point("remove:after_removed")
    if look.has_successes:  # else they are in parts
        left = look.in_shards().join(leaving.lazy(), on="uuid", how="anti", maintain_order="left")
        write_table(folder / SUCCESSES_NAME, left, _metadata(folder), allowed)
    crash_point("remove:after_successes")
    return len(leaving)


@dataclass(frozen=True, slots=True)
class Restored:
    """Images of a batch that were put back, and that could not be: their bytes are reclaimed."""

    images: int = 0
    lost: int = 0


def restore_images(batch: Batch, paths: OutputPaths, tool: str, *, allowed: Allowed) -> Restored:
    """Undo what a tool removed from a batch. A row that was fetched again meanwhile stays as it is.

    The images are back from the moment removed.parquet is written.
    """
    folder = paths.batch_images(batch)
    look = BatchFiles.of(folder)
    removed = look.removed().collect()
    present = look.images().select("uuid").collect()
    mine = removed.filter(tool=tool).join(present, on="uuid", how="anti", maintain_order="left")
    there = [name for name in mine["file"].unique().drop_nulls() if (folder / name).exists()]
    back = mine.filter(pl.col("file").is_in(there))
    if back.is_empty():
        return Restored(lost=len(mine))
    reopen(folder, allowed)
    others = look.in_shards().join(back.lazy(), on="uuid", how="anti", maintain_order="left")
    whole = pl.concat([others, back.lazy().select(SUCCESSES.names())])
    write_table(folder / SUCCESSES_NAME, whole, _metadata(folder), allowed)
    crash_point("restore:after_successes")
    left = removed.join(back, on="uuid", how="anti", maintain_order="left")
    write_table(folder / REMOVED_NAME, left.lazy(), {}, allowed)
    crash_point("restore:after_removed")
    return Restored(len(back), len(mine) - len(back))


def compact_batch(batch: Batch, paths: OutputPaths, *, allowed: Allowed) -> int:
    """Reclaim the bytes of removed images; how many bytes that were."""
    folder = paths.batch_images(batch)
    look = BatchFiles.of(folder)
    removed = look.removed().collect()
    noted = removed.filter(_HAS_BYTES)["file"].unique(maintain_order=True)
    if noted.is_empty():
        return 0
    reopen(folder, allowed)
    sources = [name for name in noted if "/" not in name and (folder / name).exists()]
    reclaimed, shards_before = _bytes_of(folder, sources), set(folder.glob("images-*.h5"))
    table = look.in_shards()
    in_use = set(table.select(pl.col("file").unique()).collect()["file"])
    moving = [name for name in sources if name in in_use]  # others may be damaged: they just go
    images, next_shard = move_images(batch, folder, table, moving, allowed)
    reclaimed -= _bytes_of(folder, set(folder.glob("images-*.h5")) - shards_before)
    metadata = {**_metadata(folder), "next_shard": str(next_shard)}
    crash_point("compact:before_successes")
    write_table(folder / SUCCESSES_NAME, images, metadata, allowed)
    crash_point("compact:after_successes")
    for name in sources:  # before the rows forget them: else a kill would leave them for ever
        (folder / name).unlink()
    crash_point("compact:after_shards")
    nowhere = [pl.lit(None, REMOVED[name]).alias(name) for name in ("file", "index")]
    write_table(folder / REMOVED_NAME, removed.lazy().with_columns(nowhere), {}, allowed)
    crash_point("compact:after_removed")
    return reclaimed


def reopen(folder: Path, allowed: Allowed) -> None:
    """Take away `completed`, before anything is written: a batch with it is not looked into."""
    allowed()
    (folder / COMPLETED_NAME).unlink(missing_ok=True)


def holds_removed(look: BatchFiles) -> bool:
    """Whether successes.parquet has rows that are removed: a removal, or its undoing, was cut."""
    if not (look.has_removed and look.has_successes):
        return False
    counts = [rows.select(pl.len()).collect().item() for rows in (look.table(), look.in_shards())]
    return bool(counts[0] > counts[1])


def drop_removed(look: BatchFiles, allowed: Allowed) -> None:
    """End a removal that was cut: successes.parquet loses the rows that are removed."""
    if holds_removed(look):
        metadata = _metadata(look.folder)
        write_table(look.folder / SUCCESSES_NAME, look.in_shards(), metadata, allowed)


def _metadata(folder: Path) -> dict[str, str]:
    return read_metadata(folder / SUCCESSES_NAME)


def _bytes_of(folder: Path, names: Iterable[str | Path]) -> int:
    return sum((folder / name).stat().st_size for name in names)
