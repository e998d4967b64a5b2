"""Tables that prove themselves whole: a table's checksum stands in its own footer.

As in the header of a tar file, it is the checksum of the file with the checksum's digits as zeros.
So there is no second file that could be lost or be of another moment, and no second fsync; and it
goes along wherever the table is copied.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

KEY = "polite_image_downloader.checksum"  # of the file's own metadata; no column is called so
PREFIX = "sha256:"
DIGITS = 64
UNSEALED = {KEY: PREFIX + "0" * DIGITS}  # metadata of a table that `seal` makes whole
_CHUNK = 1 << 20
_MAGIC = b"PAR1"  # the last bytes of a parquet file, after its footer and the footer's length


def write_sealed(
    file: Path,
    table: pl.DataFrame | pl.LazyFrame,
    metadata: Mapping[str, str] | None = None,
    **options: Any,
) -> None:
    """Write a table, with its checksum; a LazyFrame is streamed. `options` are polars' own."""
    metadata = {**(metadata or {}), **UNSEALED}
    if isinstance(table, pl.LazyFrame):
        table.sink_parquet(file, metadata=metadata, **options)
    else:
        table.write_parquet(file, metadata=metadata, **options)
    seal(file)


def seal(file: Path) -> None:
    """Put the checksum into a table that was written with UNSEALED."""
    with file.open("r+b") as written:
        digits_at = _digits_at(written)
        assert digits_at is not None, file
        digest = _digest(written, digits_at)
        written.seek(digits_at)
        written.write(digest)


def is_whole(file: Path) -> bool:
    """Whether these are the bytes that were written; a table without a checksum must only end well.

    Raises OSError if it cannot be read.
    """
    with file.open("rb") as table:
        if not _has_footer(table):
            return False
        try:
            digits_at = _digits_at(table)
        except ValueError:
            return False
        if digits_at is None:
            return True
        table.seek(digits_at)
        return table.read(DIGITS) == _digest(table, digits_at)


def _footer(table: BinaryIO) -> tuple[int, bytes]:
    """Where the footer begins, and the footer (Apache Parquet's format, "File format")."""
    end = table.seek(0, os.SEEK_END) - 8
    table.seek(max(0, end))
    length = int.from_bytes(table.read(4), "little")
    table.seek(end - length)
    return end - length, table.read(length)


def _has_footer(table: BinaryIO) -> bool:
    size = table.seek(0, os.SEEK_END)
    table.seek(max(0, size - 8))
    length, magic = int.from_bytes(table.read(4), "little"), table.read(4)
    return size >= 12 and magic == _MAGIC and length <= size - 12


def _digits_at(table: BinaryIO) -> int | None:
    """Where the checksum's digits begin; None if there is none. ValueError if only half of it is.

    The key and the prefix stand for it, so that no single change can make it invisible.
    """
    begin, footer = _footer(table)
    key, prefix = footer.rfind(KEY.encode()), footer.rfind(PREFIX.encode())
    if key < 0 and prefix < 0:
        return None
    if key < 0 or prefix < 0:
        raise ValueError("half a checksum")
    return begin + prefix + len(PREFIX)


def _digest(table: BinaryIO, digits_at: int) -> bytes:
    """The digits for this file, in memory that does not grow with it."""
    digest = hashlib.sha256()
    table.seek(0)
    left = digits_at
    while left and (chunk := table.read(min(_CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
    digest.update(b"0" * DIGITS)
    table.seek(digits_at + DIGITS)
    while chunk := table.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest().encode()
