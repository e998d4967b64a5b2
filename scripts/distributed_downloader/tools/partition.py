"""One partition as a runner gets it: the images that the filter picked, and their bytes."""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image

from distributed_downloader.paths import Batch
from distributed_downloader.storage.batch_files import SUCCESSES_NAME, BatchFiles
from distributed_downloader.storage.image_files import ImageFile

Body = bytes  # the name is a field of StoredImage, too


class Interrupted(Exception):  # noqa: N818 - no error: the job must end
    """The partition is left as it is; the next job takes it again."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image of the dataset, with its row of successes.parquet."""

    row: dict[str, Any]
    bytes: Body = field(repr=False)  # encoded, as stored
    original: Body = field(default=b"", repr=False)  # as received, if it was asked for and kept

    @property
    def uuid(self) -> str:
        """What names it."""
        return str(self.row["uuid"])

    @property
    def is_intact(self) -> bool:
        """Whether these are the bytes that were stored."""
        found = hashlib.md5(self.bytes, usedforsecurity=False).hexdigest()
        return bool(found == self.row["hashsum_resized"])

    @property
    def is_of_our_making(self) -> bool:
        """Whether our encoder wrote these very bytes: no stranger did, nor a broken disk."""
        is_as_received = self.row["hashsum_original"] in (None, self.row["hashsum_resized"])
        return not is_as_received and self.is_intact

    @property
    def image(self) -> Image.Image:
        """Decoded, in this process."""
        image = Image.open(io.BytesIO(self.bytes))
        image.load()
        return image


class Partition:
    """The picked images of one partition. `tick` is told of each; it raises Interrupted."""

    def __init__(
        self,
        batch: Batch,
        folder: Path,
        picked: pl.DataFrame,
        tick: Callable[[int], None] = lambda _images: None,
    ) -> None:
        self.batch = batch
        self.folder = folder  # of the partition's shards and tables
        self.picked = picked  # rows of the filter table
        self.tick = tick

    @property
    def successes(self) -> Path:
        """The table of its images."""
        return self.folder / SUCCESSES_NAME

    @cached_property
    def rows(self) -> pl.DataFrame:
        """The rows of the images that were picked and are there; tables.SUCCESSES."""
        return chosen(BatchFiles.of(self.folder).images(), self.picked).collect()

    def images(
        self, rows: pl.DataFrame | None = None, *, with_originals: bool = False
    ) -> Iterator[StoredImage]:
        """The images with their bytes (None: all `rows`), in the order of the table."""
        files: dict[str, ImageFile] = {}
        with ExitStack() as stack:
            for row in (self.rows if rows is None else rows).iter_rows(named=True):
                name = row["file"]
                if name not in files:
                    files[name] = stack.enter_context(ImageFile(self.folder / name))
                body = files[name].read(row["index"])
                original = _original(files[name], row, body) if with_originals else b""
                yield StoredImage(row, body, original)
                self.tick(1)


def chosen(images: pl.LazyFrame, picked: pl.DataFrame) -> pl.LazyFrame:
    """Those of a partition's images that were picked; a row without a uuid picks them all."""
    if picked["uuid"].has_nulls():
        return images
    uuids = picked.lazy().select("uuid").unique()
    return images.join(uuids, on="uuid", how="semi", maintain_order="left")


def _original(file: ImageFile, row: dict[str, Any], body: bytes) -> bytes:
    """The bytes as received; an image that was stored as it came has no others."""
    if row["hashsum_original"] == row["hashsum_resized"]:
        return body
    return file.read(row["index"], "original")
