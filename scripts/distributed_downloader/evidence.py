"""What proves that a row is ok: an image that its table points to, in a file that is whole."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import polars as pl

from distributed_downloader.parts import IMAGES_NAME, ROWS_NAME, list_parts
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import State
from distributed_downloader.tables import SUCCESSES

SUCCESSES_NAME = "successes.parquet"
IMAGE = pl.Schema(
    {name: SUCCESSES[name] for name in ("uuid", "file", "index", "wave", "fetched_at")}
)


def images_of(batch: Batch, paths: OutputPaths, states: pl.DataFrame) -> pl.DataFrame:
    """IMAGE, one row for each row of `states` that is ok and has its image in a table or a part.

    A part that was absorbed and not yet removed says the same as successes.parquet, which comes
    first.
    """
    folder = paths.batch_images(batch)
    tables = [_successes(folder), *(_part(part) for part in list_parts(folder))]
    ok = states.filter(pl.col("state") == State.OK.value).select("uuid")
    images = pl.concat(tables).unique("uuid", keep="first", maintain_order=True)
    return images.join(ok, on="uuid", how="semi")


def problems_of(
    batch: Batch, paths: OutputPaths, images: pl.DataFrame, states: pl.DataFrame
) -> Iterator[str]:
    """Sentences on what the batch's tables say and its image files do not hold."""
    ok = (states["state"] == State.OK.value).sum()
    if ok != len(images):
        yield f"{batch.folder} has {ok} rows that are ok, {len(images)} of them with an image"
    places = images.group_by("file", maintain_order=True).agg(
        pl.len().alias("rows"),
        pl.col("index").n_unique().alias("places"),
        pl.min("index").alias("first"),
        pl.max("index").alias("last"),
    )
    for file, rows, indexes, first, last in places.iter_rows():
        path = paths.batch_images(batch) / file
        if indexes != rows:
            yield f"{path} has {rows} rows that share {indexes} places"
        held, problem = _held(path)
        if problem:
            yield f"{path} {problem}, {rows} rows point to it"
        elif first < 0 or last >= held:
            number = last if last >= held else first
            yield f"{path} holds {held} images, a row points to number {number}"


def _held(path: Path) -> tuple[int, str | None]:
    """Images of a file, and what is wrong with it; bytes are not read."""
    try:
        with h5py.File(path, "r") as file:
            offsets, data = file["offsets"], file["data"]
            if not len(offsets) or int(offsets[-1]) != len(data):
                return 0, f"holds {len(data)} bytes and not what its offsets say"
            start = data.id.get_offset() or 0
            if path.stat().st_size < start + len(data):
                return 0, "is cut short"
            return len(offsets) - 1, None
    except FileNotFoundError:
        return 0, "is missing"
    except (OSError, KeyError, RuntimeError):
        return 0, "is cut short or no image file"


def _successes(folder: Path) -> pl.DataFrame:
    path = folder / SUCCESSES_NAME
    if not path.is_file():
        return pl.DataFrame(schema=IMAGE)
    table = pl.read_parquet(path, columns=IMAGE.names(), hive_partitioning=False)
    return table.select(IMAGE.names())


def _part(part: Path) -> pl.DataFrame:
    columns = [*IMAGE.names(), "error_class"]
    table = pl.read_parquet(part / ROWS_NAME, columns=columns, hive_partitioning=False)
    return table.filter(pl.col("error_class").is_null()).select(
        "uuid", pl.lit(f"{part.name}/{IMAGES_NAME}").alias("file"), "index", "wave", "fetched_at"
    )
