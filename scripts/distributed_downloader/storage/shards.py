"""Consolidation: a batch's parts become big immutable shards and two tables.

Steps, each whole or not at all: after a kill between any two, the next run goes on from there
1. the fresh images are copied into shards under names that no table has named before;
2. successes.parquet: the rows, the parts it has taken in, the number of the next shard;
3. errors.parquet: the same for the rows that failed and have no image;
4. removed.parquet loses the rows that have been fetched again;
5. parts that both tables have taken in go, and so do shards that no table names;
6. `completed` appears when every row of the batch has a final state (and goes when one has not).

A shard is never written to again. When more than MAX_SMALL_SHARDS small ones have piled up, step 1
copies them too, into one, but those with removed images: these may be restored. A reader that still
has the old table finds a shard gone then: it looks into the table again (Dataset does).
"""

import json
import logging
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from distributed_downloader.checksums import is_whole, write_sealed
from distributed_downloader.durable import (
    crash_point,
    fsync_path,
    read_json,
    remove_orphans,
    whole_file,
    write_json,
)
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
from distributed_downloader.storage.image_files import (
    ImageFile,
    ImageFileWriter,
    new_image_file,
    offsets_of,
)
from distributed_downloader.storage.parts import list_parts, lock_comes_first
from distributed_downloader.tables import ERRORS, SUCCESSES

__all__ = [
    "MAX_SHARD_BYTES",
    "MAX_SMALL_SHARDS",
    "clear_away",
    "consolidate",
    "move_images",
    "new_shard",
    "read_metadata",
    "read_states",
    "replace_table",
    "write_table",
]

log = logging.getLogger(__name__)

MAX_SHARD_BYTES = 1 << 30
SMALL_SHARD_BYTES = 64 << 20
MAX_SMALL_SHARDS = 16

_SHARD = re.compile(r"images-(\d+)\.h5")
_NOT_OURS = {"ARROW:schema"}  # what polars itself writes into a table's metadata
_PLACE = ["file", "index"]
_MOVED = {"file": pl.String, "index": pl.Int64, "new_file": pl.String, "new_index": pl.Int64}

Allowed = Callable[[], None]


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
            _take_in(batch, look, allowed)
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


def write_table(
    path: Path, table: pl.LazyFrame, metadata: dict[str, str], allowed: Allowed
) -> None:
    """Replace a batch's table, unless this run must not write any more."""
    with whole_file(path) as beside:
        write_sealed(beside, table, metadata)
        fsync_path(beside)  # which may take its time: `allowed` is asked right before the rename
        allowed()


def replace_table(path: Path, table: pl.LazyFrame, allowed: Allowed) -> None:
    """Replace one of a batch's tables, damaged or gone, by this one, which took in no part.

    The numbers of shards go on from what the other table remembers.
    """
    others = [path.with_name(name) for name in (SUCCESSES_NAME, ERRORS_NAME) if name != path.name]
    noted = [_noted_next_shard(other) for other in others if other.exists() and is_whole(other)]
    number = max([_next_shard_there(path.parent), *noted])
    write_table(path, table, {"absorbed": "[]", "next_shard": str(number)}, allowed)


def _relocated(images: pl.LazyFrame, moved: pl.DataFrame) -> pl.LazyFrame:
    """The images with the places that they were copied to."""
    joined = images.join(moved.lazy(), on=_PLACE, how="left", maintain_order="left")
    new_places = [pl.coalesce(f"new_{name}", name).alias(name) for name in _PLACE]
    return joined.with_columns(new_places).select(SUCCESSES.names())


def read_metadata(table: Path) -> dict[str, str]:
    """What our writers noted in a table: the parts it has taken in, the next shard's number, ..."""
    try:
        metadata = pl.read_parquet_metadata(table)
    except FileNotFoundError:
        return {}
    return {name: metadata[name] for name in metadata if name not in _NOT_OURS}


def move_images(
    batch: Batch, folder: Path, images: pl.LazyFrame, sources: list[str], allowed: Allowed
) -> tuple[pl.LazyFrame, int]:
    """Copy the images that lie in these files into new shards.

    Returns the table with their new places, and the number of the next shard.
    """
    places = images.select("uuid", *_PLACE).collect()
    number = _next_shard(folder)
    moved = [pl.DataFrame(schema=_MOVED)]
    for (_,), rows in _loads(folder, places, sources).group_by("load", maintain_order=True):
        name = f"images-{number}.h5"
        crash_point("consolidate:before_shard")
        _copy(batch, folder, name, rows, allowed)
        crash_point("consolidate:after_shard")
        places_now = {"new_file": pl.lit(name), "new_index": pl.int_range(pl.len())}
        moved.append(rows.select(*_PLACE, **places_now))
        number += 1
    return _relocated(images, pl.concat(moved)), number


def new_shard(
    batch: Batch, folder: Path, images: Sequence[tuple[str, bytes, bytes]], allowed: Allowed
) -> tuple[str, int]:
    """Write (uuid, image, its original or nothing) as a shard that no table names yet.

    Returns its name, and the number of the next shard.
    """
    number = _next_shard(folder)
    path = folder / f"images-{number}.h5"
    uuids = [uuid for uuid, _, _ in images]
    with whole_file(path) as beside, new_image_file(beside, batch, uuids) as shard:
        data, originals = [body for _, body, _ in images], [body for _, _, body in images]
        for kind, bodies in (("data", data), ("original", originals)):
            if kind == "data" or any(bodies):
                shard.lay_out(kind, offsets_of([len(body) for body in bodies]))
                shard.append_all(kind, bodies)
        allowed()
    return path.name, number + 1


def _next_shard(folder: Path) -> int:
    """A number that is over those of all shards there are, and of those there were."""
    return max(_noted_next_shard(folder / SUCCESSES_NAME), _next_shard_there(folder))


def _next_shard_there(folder: Path) -> int:
    there = [int(match[1]) for path in folder.iterdir() if (match := _SHARD.fullmatch(path.name))]
    return max(there, default=-1) + 1


def _noted_next_shard(table: Path) -> int:
    try:
        return int(pl.read_parquet_metadata(table).get("next_shard", "0"))
    except FileNotFoundError:
        return 0


def _sources(look: BatchFiles, files: list[str]) -> list[str]:
    """The files to copy from: those of parts, and the small shards when there are many."""
    kept = _named_by(look.removed())
    shards = [file for file in files if _SHARD.fullmatch(file) and file not in kept]
    fresh = [file for file in files if not _SHARD.fullmatch(file)]
    small = [file for file in shards if (look.folder / file).stat().st_size < SMALL_SHARD_BYTES]
    return [*small, *fresh] if fresh and len(small) >= MAX_SMALL_SHARDS else fresh


def _named_by(table: pl.LazyFrame) -> set[str]:
    return set(table.select(pl.col("file").unique()).collect()["file"])


def _loads(folder: Path, places: pl.DataFrame, sources: list[str]) -> pl.DataFrame:
    """What is to be copied: uuid, file, index, bytes and, about MAX_SHARD_BYTES each, its load."""
    tables = [places.clear().with_columns(bytes=pl.lit(0, pl.Int64))]
    for file in sources:
        rows = places.filter(file=file).sort("index")
        with ImageFile(folder / file) as source:
            sizes = source.sizes("data") + source.sizes("original")
        taken = sizes[rows["index"].to_numpy()].astype(np.int64)
        tables.append(rows.with_columns(bytes=pl.Series(taken, dtype=pl.Int64)))
    before = pl.col("bytes").cum_sum() - pl.col("bytes")
    return pl.concat(tables).with_columns(load=before // MAX_SHARD_BYTES)


def _copy(batch: Batch, folder: Path, name: str, rows: pl.DataFrame, allowed: Allowed) -> None:
    """Write a shard of these images (file, index), in a stream."""
    runs = {
        str(file): run["index"].to_numpy()
        for (file,), run in rows.group_by("file", maintain_order=True)
    }
    uuids = rows["uuid"].to_list()
    with whole_file(folder / name) as beside, new_image_file(beside, batch, uuids) as shard:
        for kind in ("data", "original"):
            sizes, has_any = [], kind == "data"
            for file, indexes in runs.items():
                with ImageFile(folder / file) as source:
                    sizes.append(source.sizes(kind)[indexes])
                    has_any = has_any or source.has_originals
            if has_any:
                shard.lay_out(kind, offsets_of(np.concatenate(sizes)))
                _copy_kind(folder, kind, runs, shard)
        allowed()


def _copy_kind(
    folder: Path, kind: str, runs: dict[str, npt.NDArray[np.int64]], shard: ImageFileWriter
) -> None:
    for file, indexes in runs.items():
        with ImageFile(folder / file) as source:
            for chunk in source.chunks(indexes, kind):
                shard.append(kind, chunk)


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
    successes = folder / SUCCESSES_NAME
    done = absorbed_by(successes) & absorbed_by(folder / ERRORS_NAME)
    for part in list_parts(folder):
        if part.name in done:
            crash_point("consolidate:before_part_goes")
            shutil.rmtree(part, ignore_errors=True)  # what stays is skipped, and goes next time
    crash_point("consolidate:after_parts")
    named = _named_by(BatchFiles.of(folder).removed())
    if successes.exists():
        named |= _named_by(pl.scan_parquet(successes, hive_partitioning=False))
    for path in folder.iterdir():
        if _SHARD.fullmatch(path.name) and path.name not in named:
            path.unlink()


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
