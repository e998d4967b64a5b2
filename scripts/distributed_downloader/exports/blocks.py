"""The images of a partition in large blocks: read in one go each, into one buffer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from distributed_downloader.codec.signatures import allowed_format
from distributed_downloader.storage.image_files import ImageFile, offsets_of

BLOCK_BYTES = 1 << 20  # what is read at once, unless one image is larger: it stays in the cache
STRETCH_BYTES = 64 << 20  # images whose rows are described together
HEAD_BYTES = 32  # enough to tell a format

Describe = Callable[[pl.DataFrame], pl.DataFrame]  # adds the columns that a format writes

_SUFFIXES = {"jpeg": "jpg", "tiff": "tif"}


@dataclass(frozen=True)
class Block:
    """Images that lie one after the other in `data`, which is only theirs until the next block."""

    rows: pl.DataFrame  # of tables.SUCCESSES, described
    data: memoryview
    offsets: npt.NDArray[np.int64]  # n + 1

    @cached_property
    def images(self) -> list[memoryview]:
        """The bytes of each."""
        places = self.offsets.tolist()
        return [self.data[start:end] for start, end in pairwise(places)]

    @cached_property
    def suffixes(self) -> list[str]:
        """What a file of each ends with, told from its bytes: `jpg`, `png`, ..."""
        return [suffix_of(bytes(image[:HEAD_BYTES])) for image in self.images]


def suffix_of(head: bytes) -> str:
    """The usual ending of a file that begins like this; `bin` if nothing is known of it."""
    if head.startswith(b"\xff\xd8\xff"):  # nearly always
        return "jpg"
    form = allowed_format(head)
    return _SUFFIXES.get(form, form) if form else "bin"


def sizes_of(folder: Path, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows in the order in which they are best read, with `bytes`, the size of each image."""
    tables = [rows.clear().with_columns(bytes=pl.lit(0, pl.Int64))]
    for (name,), run in rows.group_by("file", maintain_order=True):
        with ImageFile(folder / str(name)) as file:
            sizes = file.sizes("data").astype(np.int64)
        ordered = run.sort("index")
        tables.append(ordered.with_columns(bytes=pl.Series(sizes[ordered["index"].to_numpy()])))
    return pl.concat(tables)


def blocks(
    folder: Path, rows: pl.DataFrame, describe: Describe, block_bytes: int = BLOCK_BYTES
) -> Iterator[Block]:
    """The images of these rows (of `sizes_of`), in their order."""
    largest = int(rows["bytes"].max() or 0)  # type: ignore[arg-type]
    most = min(block_bytes, int(rows["bytes"].sum()))  # a buffer costs by its pages
    buffer = memoryview(bytearray(max(most, largest)))
    for (name,), run in rows.group_by("file", maintain_order=True):
        with ImageFile(folder / str(name)) as file:
            for stretch in cut(run, STRETCH_BYTES):
                for part in cut(describe(stretch), block_bytes):
                    filled = file.fill(buffer, part["index"].to_numpy())
                    offsets = offsets_of(part["bytes"].to_numpy()).astype(np.int64)
                    yield Block(part, buffer[:filled], offsets)


def cut(rows: pl.DataFrame, most_bytes: int) -> Iterator[pl.DataFrame]:
    """Neighbours together, at most so many bytes, or one image that is larger."""
    ends = rows["bytes"].cum_sum().to_numpy()
    first = 0
    while first < len(rows):
        before = int(ends[first - 1]) if first else 0
        last = int(np.searchsorted(ends, before + most_bytes, side="right"))
        last = max(last, first + 1)
        yield rows[first:last]
        first = last
