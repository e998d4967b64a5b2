"""Tables that come together, as in a Darwin Core Archive: found, opened and joined out of core.

1. In a folder that holds the archive's table, only it and the other one are read: what else lies
   there (verbatim rows, citations) is no list of images. A zip is read without unpacking it.
2. The other table is read for the few columns that are asked for. If it is small it is joined in
   memory, in the order of the table. If it is not, both go to disk in buckets by a hash of the
   key, and the rows come bucket after bucket, in the table's order within each: the same archive
   gives the same order, and memory depends on the size of a bucket only.
"""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import polars_hash  # noqa: F401 - adds the namespace `nchash`, whose hashes never change

from distributed_downloader.errors import InputError
from distributed_downloader.lists.blocks import frames_of, from_pieces
from distributed_downloader.lists.runs import Run, read_slab, write_run
from distributed_downloader.lists.sources import Archive

SMALL_BYTES = 256 << 20  # of text: about so much memory
BUCKET_BYTES = 64 << 20
PIECE_ROWS = 500_000
READ_BYTES = 1 << 20
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    NotImplementedError,  # a packing, or a version, that zipfile does not know
    RuntimeError,  # encrypted
    EOFError,
    OSError,
    ValueError,  # an offset below zero
    zlib.error,
    lzma.LZMAError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class Member:
    """One table of an archive: a file, or what a zip holds under this name."""

    path: Path
    inside: str | None = None

    @property
    def bytes(self) -> int:
        """Unpacked, as far as a zip says so."""
        if self.inside is None:
            return self.path.stat().st_size
        with zipfile.ZipFile(self.path) as archive:
            return archive.getinfo(self.inside).file_size

    def __str__(self) -> str:
        return str(self.path) if self.inside is None else f"{self.path} ({self.inside})"


@dataclass(frozen=True, slots=True)
class Joined:
    """The table of an archive, and the one that adds columns to it."""

    table: Member
    other: Member | None


def what_matters(files: Sequence[Path], archive: Archive | None) -> list[Path]:
    """These files without those that lie beside an archive's table and are not read."""
    if archive is None:
        return list(files)
    homes = {file.parent for file in files if _stem(file.name) == archive.table}
    names = (archive.table, archive.other)
    return [file for file in files if file.parent not in homes or _stem(file.name) in names]


def joined_members(files: Sequence[Path], archive: Archive) -> list[Path | Joined]:
    """The files to read: those of archives two by two. Raises InputError for a zip without one."""
    others = {file.parent: file for file in files if _stem(file.name) == archive.other}
    tables = {file.parent for file in files if _stem(file.name) == archive.table}
    found: list[Path | Joined] = []
    for file in files:
        if zipfile.is_zipfile(file):
            found.append(_in_zip(file, archive))
        elif _stem(file.name) == archive.table and file.parent in others:
            found.append(Joined(Member(file), Member(others[file.parent])))
        elif _stem(file.name) != archive.other or file.parent not in tables:
            found.append(file)
    return found


def _stem(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0].lower()


def _in_zip(path: Path, archive: Archive) -> Joined:
    with _opened(path) as opened:
        names = {_stem(name): name for name in opened.namelist() if not name.endswith("/")}
    if archive.table not in names:
        raise InputError(
            f"{path} has no {archive.table}.txt; its files are "
            f"{', '.join(sorted(names.values()))}: "
            "ask for the archive with its multimedia table (a Darwin Core Archive)."
        )
    other = names.get(archive.other)
    return Joined(Member(path, names[archive.table]), Member(path, other) if other else None)


def scan_zipped(member: Member) -> pl.LazyFrame:
    """A tab-separated table in a zip, read in blocks as it is unpacked."""
    return from_pieces(lambda: frames_of(lambda: _unzipped(member), str(member)))


def _unzipped(member: Member) -> Iterator[bytes]:
    with _opened(member.path) as archive, archive.open(str(member.inside)) as stream:
        while block := stream.read(READ_BYTES):
            yield block


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip that may be cut, damaged or encrypted: zipfile has many words for that."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _ZIP_ERRORS as error:
        told = str(error) or type(error).__name__
        raise InputError(
            f"{path} cannot be read to its end ({told}); mend or replace it."
        ) from error


def join(
    table: pl.LazyFrame, other: pl.LazyFrame, archive: Archive, other_bytes: int, scratch: Path
) -> pl.LazyFrame:
    """The table's rows with the other's columns; a key that the other has not gets nulls."""
    names, known = table.collect_schema().names(), other.collect_schema().names()
    columns = [name for name in archive.columns if name in known and name not in names]
    if archive.key not in names or archive.key not in known or not columns:
        return table
    key = pl.col(archive.key).cast(pl.String)
    table, few = table.with_columns(key), other.select(key, *columns)
    if other_bytes <= SMALL_BYTES:
        first = few.unique(archive.key, keep="first", maintain_order=True)
        return table.join(first, on=archive.key, how="left", maintain_order="left")
    buckets = -(-other_bytes // BUCKET_BYTES)
    schema = pl.Schema({**table.collect_schema(), **few.select(columns).collect_schema()})
    return from_pieces(lambda: _by_bucket(table, few, archive.key, buckets, scratch), schema)


def _by_bucket(
    table: pl.LazyFrame, other: pl.LazyFrame, key: str, buckets: int, scratch: Path
) -> Iterator[pl.DataFrame]:
    scratch.mkdir(parents=True, exist_ok=True)
    runs = [
        _spilled(frame, key, buckets, scratch / name)
        for name, frame in (("table", table), ("other", other))
    ]
    for bucket in range(buckets):
        rows, others = (next((rows for _, rows in read_slab(each, bucket)), None) for each in runs)
        if rows is None:
            continue
        if others is None:
            others = other.collect_schema().to_frame()
        others = others.select(other.collect_schema().names())
        first = others.unique(key, keep="first", maintain_order=True)
        yield rows.drop("batch").join(first, on=key, how="left", maintain_order="left")


def _spilled(frame: pl.LazyFrame, key: str, buckets: int, folder: Path) -> list[Run]:
    folder.mkdir()
    bucket = pl.col(key).fill_null("").nchash.xxhash64() % buckets  # type: ignore[attr-defined]
    pieces = frame.collect_batches(chunk_size=PIECE_ROWS, maintain_order=True)
    return [
        write_run(
            piece.with_columns(bucket.cast(pl.UInt32).alias("batch")),
            list(range(buckets + 1)),
            folder / f"{number:06}.parquet",
        )
        for number, piece in enumerate(pieces)
    ]
