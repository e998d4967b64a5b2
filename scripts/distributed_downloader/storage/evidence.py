"""What proves that a row is ok: an image that its table points to, in a place of its own."""

from collections.abc import Iterator

import polars as pl

from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import State
from distributed_downloader.storage.batch_files import BatchFiles, without_gone
from distributed_downloader.tables import SUCCESSES

_IMAGE = ("uuid", "file", "index", "wave", "fetched_at", "validated_at")
IMAGE = pl.Schema({name: SUCCESSES[name] for name in _IMAGE})


def images_of(batch: Batch, paths: OutputPaths) -> pl.DataFrame:
    """Where the image of each row that is ok lies, over tables and parts; IMAGE."""
    files = BatchFiles.of(paths.batch_images(batch))
    return without_gone(files.images().select(IMAGE.names()).collect(), batch, paths)


def removals_of(batch: Batch, paths: OutputPaths) -> pl.DataFrame:
    """What tools took out of the batch: tool, reason, refetch, rows."""
    removed = BatchFiles.of(paths.batch_images(batch)).removed()
    return removed.group_by("tool", "reason", "refetch").agg(rows=pl.len().cast(pl.Int64)).collect()


def problems_of(
    batch: Batch, paths: OutputPaths, images: pl.DataFrame, states: pl.DataFrame
) -> Iterator[str]:
    """Sentences on what the batch's tables say that cannot be (`damage` looks into the files)."""
    ok = (states["state"] == State.OK.value).sum()
    if ok != len(images):
        yield f"{batch.folder} has {ok} rows that are ok, {len(images)} of them with an image"
    places = images.group_by("file", maintain_order=True).agg(
        pl.len().alias("rows"), pl.col("index").n_unique().alias("places")
    )
    for file, rows, indexes in places.iter_rows():
        if indexes != rows:
            path = paths.batch_images(batch) / file
            yield f"{path} has {rows} rows that share {indexes} places"
