"""Consolidation: a batch's parts become big immutable shards and two tables.

Steps, each whole or not at all: after a kill between any two, the next run goes on from there
1. the fresh images are copied into shards under names that no table has named before;
2. successes.parquet: the rows, the parts it has taken in, the number of the next shard;
3. errors.parquet: the same for the rows that failed and have no image;
4. removed.parquet loses the rows that have been fetched again;
5. parts that both tables have taken in go, and so do shards that no table names;
6. `completed` appears when every row of the batch has a final state (and goes when one has not).

Before the first of them `completed` goes: a batch that has it, and no part, is tidy.

A shard is never written to again. When more than MAX_SMALL_SHARDS small ones have piled up, step 1
copies them too, into one, but those with removed images: these may be restored. A reader that still
has the old table finds a shard gone then: it looks into the table again (Dataset does).
"""

import json
import logging
import shutil
from collections import Counter
from pathlib import Path

import polars as pl

from distributed_downloader.durable import crash_point, read_json, remove_orphans, write_json
from distributed_downloader.errors import FolderError
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import FINAL_STATES, State
from distributed_downloader.storage.again import Again
from distributed_downloader.storage.batch_files import (
    COMPLETED_NAME,
    ERRORS_NAME,
    REMOVED_NAME,
    SUCCESSES_NAME,
    BatchFiles,
    absorbed_by,
    read_states,
)
from distributed_downloader.storage.batch_tables import Allowed, write_table
from distributed_downloader.storage.parts import list_parts, lock_comes_first
from distributed_downloader.storage.removal import drop_removed, holds_removed, reopen
from distributed_downloader.storage.shards import is_shard, move_images
from distributed_downloader.tables import ERRORS

log = logging.getLogger(__name__)

SMALL_SHARD_BYTES = 64 << 20
MAX_SMALL_SHARDS = 16


def consolidate(
    batch: Batch,
    paths: OutputPaths,
    total_rows: int,
    *,
    retries_waves: int,
    allowed: Allowed,
) -> Counter[str]:
    """Take in the batch's parts; the number of its rows in each state. May be run at any time.

    `total_rows` is the batch's number of rows, `allowed` raises LockError if this run must not
    write any more. Raises StorageError. One process at a time: nobody else may write the folder.
    """
    folder = paths.batch_images(batch)
    if not folder.is_dir():
        return Counter({State.PENDING.value: total_rows} if total_rows else {})
    with lock_comes_first(allowed):
        remove_orphans(folder)
        look = BatchFiles.of(folder)
        if look.fresh or look.fresh_errors:
            reopen(folder, allowed)
            _take_in(batch, look, allowed)
        else:
            drop_removed(look, allowed)
        _forget_refetched(BatchFiles.of(folder), allowed)
        allowed()
        clear_away(folder)
    states = read_states(batch, paths, retries_waves)
    return _mark_completed(folder, states, total_rows, retries_waves, Again.of(paths))


def _take_in(batch: Batch, look: BatchFiles, allowed: Allowed) -> None:
    names = sorted(part.name for part in list_parts(look.folder))
    images = look.images()
    files = images.select(pl.col("file").unique(maintain_order=True)).collect()["file"].to_list()
    sources = _sources(look, files)
    images, next_shard = move_images(batch, look.folder, images, sources, allowed)
    metadata = {"absorbed": json.dumps(names), "next_shard": str(next_shard)}
    crash_point("consolidate:before_successes")
    write_table(look.folder / SUCCESSES_NAME, images, metadata, allowed)
    crash_point("consolidate:after_successes")
    taken = BatchFiles.of(look.folder)
    gone = taken.removed().filter(~pl.col("refetch"))
    errors = taken.errors().join(taken.images(), on="uuid", how="anti", maintain_order="left")
    errors = errors.join(gone, on="uuid", how="anti", maintain_order="left").select(ERRORS.names())
    write_table(look.folder / ERRORS_NAME, errors, metadata, allowed)
    crash_point("consolidate:after_errors")


def _sources(look: BatchFiles, files: list[str]) -> list[str]:
    """The files to copy from: those of parts, and the small shards when there are many."""
    kept = _named_by(look.removed())
    shards = [file for file in files if is_shard(file) and file not in kept]
    fresh = [file for file in files if not is_shard(file)]
    small = [file for file in shards if (look.folder / file).stat().st_size < SMALL_SHARD_BYTES]
    return [*small, *fresh] if fresh and len(small) >= MAX_SMALL_SHARDS else fresh


def _named_by(table: pl.LazyFrame) -> set[str]:
    return set(table.select(pl.col("file").unique()).collect()["file"])


def _forget_refetched(look: BatchFiles, allowed: Allowed) -> None:
    """One row per uuid over the tables: a row that was fetched again is removed no longer."""
    if not look.has_removed:
        return
    removed = look.removed().collect()
    again = look.images().select("uuid").collect()
    is_again = pl.col("refetch") & pl.col("uuid").is_in(again["uuid"].implode())
    left = removed.filter(~is_again)
    if len(left) < len(removed):
        write_table(look.folder / REMOVED_NAME, left.lazy(), {}, allowed)
    crash_point("consolidate:after_removed")


def clear_away(folder: Path) -> None:
    """Remove parts that both tables have taken in, and shards that no row names, removed or not."""
    done = absorbed_by(folder / SUCCESSES_NAME) & absorbed_by(folder / ERRORS_NAME)
    for part in list_parts(folder):
        if part.name in done:
            crash_point("consolidate:before_part_goes")
            shutil.rmtree(part, ignore_errors=True)  # what stays is skipped, and goes next time
    crash_point("consolidate:after_parts")
    look = BatchFiles.of(folder)
    for name in _shards_in(folder) - _named_by(look.removed()) - _named_by(look.table()):
        (folder / name).unlink()


def is_settled(folder: Path, total_rows: int) -> bool:
    """Whether `consolidate` has nothing to do; a completed batch is not opened to tell."""
    if list_parts(folder):
        return False
    if (folder / COMPLETED_NAME).exists() or not folder.is_dir():
        return True
    try:
        return not _may_be_untidy(BatchFiles.of(folder), total_rows)
    except (FolderError, pl.exceptions.PolarsError):
        return False  # `consolidate` says what is damaged


def _may_be_untidy(look: BatchFiles, total_rows: int) -> bool:
    """Of a batch without parts that is not completed; opens as few columns as will do."""
    named = [table.select("file") for table in (look.table(), look.removed())]
    images, removed, errors = pl.collect_all([*named, look.errors().select("uuid")])
    may_be_complete = len(images) + len(removed) + len(errors) >= total_rows
    unnamed = _shards_in(look.folder) - {*images["file"], *removed["file"]}
    return may_be_complete or bool(unnamed) or holds_removed(look)


def _shards_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if is_shard(path.name)}


def _mark_completed(
    folder: Path, states: pl.DataFrame, total_rows: int, retries_waves: int, again: Again
) -> Counter[str]:
    """`completed` says by which settings, and when the image was seen that was not for longest."""
    counts = Counter(dict(states.group_by("state").len().iter_rows()))
    unknown = total_rows - len(states)
    if unknown > 0:
        counts[State.PENDING.value] += unknown
    mark = folder / COMPLETED_NAME
    if sum(counts[state.value] for state in FINAL_STATES) >= total_rows:
        told = {
            "rows": total_rows,
            "retries_waves": retries_waves,
            "retry_wave": again.retry_wave,
            "seen": _longest_unseen(folder),
            **dict(sorted(counts.items())),
        }
        if read_json(mark) != told:
            crash_point("consolidate:before_completed")
            write_json(mark, told)
            log.info("batch finished: %s: %s", folder.parent.name, told)
    else:
        mark.unlink(missing_ok=True)
    return counts


def _longest_unseen(folder: Path) -> float | None:
    """Unix seconds: of the image that its server was not asked about for longest."""
    seen = pl.coalesce("validated_at", "fetched_at").min().dt.epoch("us") / 1e6
    images = BatchFiles.of(folder).images().select(seen.alias("seen")).collect()
    return None if images["seen"][0] is None else float(images["seen"][0])
