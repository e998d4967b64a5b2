"""What proves that a row is ok: an image that its table points to, in a file that is whole."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import polars as pl

from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import State
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.tables import SUCCESSES

IMAGE = pl.Schema(
    {name: SUCCESSES[name] for name in ("uuid", "file", "index", "wave", "fetched_at")}
)


def images_of(batch: Batch, paths: OutputPaths) -> pl.DataFrame:
    """Where the image of each row that is ok lies, over tables and parts; IMAGE."""
    files = BatchFiles.of(paths.batch_images(batch))
    return files.images().select(IMAGE.names()).collect()


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
