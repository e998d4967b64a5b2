"""Shards: images are copied into new ones, under names that no table has named before.

A shard is never written to again: tables name it once it is whole, and it goes when none does.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from distributed_downloader.durable import crash_point, whole_file
from distributed_downloader.paths import Batch
from distributed_downloader.storage.batch_files import SUCCESSES_NAME
from distributed_downloader.storage.batch_tables import Allowed, read_metadata
from distributed_downloader.storage.image_files import (
    ImageFile,
    ImageFileWriter,
    new_image_file,
    offsets_of,
)
from distributed_downloader.tables import SUCCESSES

MAX_SHARD_BYTES = 1 << 30

_NAME = re.compile(r"images-(\d+)\.h5")
_PLACE = ["file", "index"]
_MOVED = {"file": pl.String, "index": pl.Int64, "new_file": pl.String, "new_index": pl.Int64}


def is_shard(name: str) -> bool:
    """Whether a file of a batch's folder is one, by its name."""
    return _NAME.fullmatch(name) is not None


def move_images(
    batch: Batch, folder: Path, images: pl.LazyFrame, sources: list[str], allowed: Allowed
) -> tuple[pl.LazyFrame, int]:
    """Copy the images that lie in these files into new shards.

    Returns the table with their new places, and the number of the next shard.
    """
    places = images.select("uuid", *_PLACE).collect()
    number = next_number(folder, folder / SUCCESSES_NAME)
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
    number = next_number(folder, folder / SUCCESSES_NAME)
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


def next_number(folder: Path, *tables: Path) -> int:
    """A number over those of all shards there are, and of those there were: the tables note it."""
    there = [int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    noted = [int(read_metadata(table).get("next_shard", "0")) for table in tables]
    return max([max(there, default=-1) + 1, *noted])


def _relocated(images: pl.LazyFrame, moved: pl.DataFrame) -> pl.LazyFrame:
    """The images with the places that they were copied to."""
    joined = images.join(moved.lazy(), on=_PLACE, how="left", maintain_order="left")
    new_places = [pl.coalesce(f"new_{name}", name).alias(name) for name in _PLACE]
    return joined.with_columns(new_places).select(SUCCESSES.names())


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
