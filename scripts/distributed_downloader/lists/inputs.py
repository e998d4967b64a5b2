"""The list of URLs as lazy tables with our column names, whatever it is written in.

Separated text is read as text, with no guessing of types: empty is null, a short row is filled up
with nulls, what a row has beyond the header is dropped, and a blank line is no row. Parquet keeps
the types of columns that are not ours. JSON: see `json_rows`.
"""

import glob
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

import polars as pl
import zstandard

from distributed_downloader.errors import InputError
from distributed_downloader.lists.archives import (
    Joined,
    Member,
    join,
    joined_members,
    scan_zipped,
    what_matters,
)
from distributed_downloader.lists.columns import is_url_column, with_our_columns
from distributed_downloader.lists.formats import Format, Layout, faulty_line, sniff
from distributed_downloader.lists.json_rows import ROWS_AT_ONCE, read_json_array, scan_json_lines
from distributed_downloader.lists.sources import source_named
from distributed_downloader.settings import Settings

ENDINGS = (".txt", ".list", ".tsv", ".tab", ".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".pq")
PACKINGS = (".gz", ".gzip", ".zst", ".zstd")

_READ_ERRORS = (
    pl.exceptions.PolarsError,
    OSError,
    EOFError,
    ValueError,
    RecursionError,  # brackets in brackets in brackets
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the input: our columns first, as text, then its others."""

    path: Path
    frame: pl.LazyFrame

    def pieces(self, rows: int = ROWS_AT_ONCE) -> Iterator[pl.DataFrame]:
        """The rows in the file's order, so many at once. Raises InputError if it is broken."""
        with _reading(self.path):
            yield from self.frame.collect_batches(chunk_size=rows, maintain_order=True)


def find_files(path_to_input: str) -> list[Path]:
    """The files that a path, a folder or a glob means, sorted; empty ones only if all are."""
    path = Path(path_to_input)
    if path.is_file():
        files = [path]
    elif path.is_dir():
        below = path.rglob("*")
        files = [each for each in below if is_table(each.relative_to(path)) and each.is_file()]
    else:
        names = glob.glob(path_to_input, recursive=True)  # noqa: PTH207 (absolute ones too)
        files = [Path(name) for name in names]
        files = [file for file in files if file.is_file()]
    if not files:
        raise InputError(_nothing_there(path, path_to_input))
    filled = [file for file in files if file.stat().st_size]
    if not filled:
        raise InputError(f"{path_to_input} is empty; give a list with at least one URL.")
    return sorted(filled)


def list_files(settings: Settings) -> list[Path]:
    """The files of the input that matter to its source. Raises InputError if there is none."""
    archive = source_named(settings.initializer_type).archive
    return what_matters(find_files(settings.path_to_input), archive)


def read_input(settings: Settings, scratch: Path) -> list[InputFile]:
    """Every table of the input, ready to be read. Raises InputError for what cannot be."""
    return read_files(list_files(settings), settings, scratch)


def read_files(files: Sequence[Path], settings: Settings, scratch: Path) -> list[InputFile]:
    """The same of these files."""
    archive = source_named(settings.initializer_type).archive
    tables = joined_members(files, archive) if archive else files
    return [_read(table, settings, scratch / f"join-{at}") for at, table in enumerate(tables)]


def _nothing_there(path: Path, given: str) -> str:
    if path.is_dir():
        endings = ", ".join(ENDINGS)
        return f"{given} holds no file that ends in one of {endings}; name its files by a glob."
    return f"There is no file {given}; path_to_input takes a file, a folder or a glob that exists."


def is_table(file: PurePath) -> bool:
    """Whether a file of a folder, by its path in there, is read with the folder."""
    hidden = any(part.startswith((".", "_")) for part in file.parts)
    name = file.name.lower()
    for packing in PACKINGS:
        name = name.removesuffix(packing)
    return not hidden and name.endswith(ENDINGS)


def _read(table: Path | Joined, settings: Settings, scratch: Path) -> InputFile:
    path = table.table.path if isinstance(table, Joined) else table
    with _reading(path):
        if isinstance(table, Joined):
            frame = _join(table, settings, scratch)
        else:
            frame = _scan(path, sniff(path, lambda name: is_url_column(name, settings)))
        return InputFile(path, with_our_columns(frame, path, settings))


def _join(joined: Joined, settings: Settings, scratch: Path) -> pl.LazyFrame:
    table = _scan_member(joined.table)
    archive = source_named(settings.initializer_type).archive
    if joined.other is None or archive is None:
        return table
    return join(table, _scan_member(joined.other), archive, joined.other.bytes, scratch)


def _scan_member(member: Member) -> pl.LazyFrame:
    if member.inside is not None:
        return scan_zipped(member)
    return _scan(member.path, sniff(member.path, lambda _: True))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except pl.exceptions.InvalidOperationError as error:  # nothing else casts strictly
        raise InputError(
            f"filters.where cannot be asked of a row of {path} ({_first_line(error)}): "
            "TRY_CAST gives null instead, and takes the row out."
        ) from error
    except (*_READ_ERRORS, zstandard.ZstdError) as error:
        raise InputError(
            f"{path} cannot be read to its end ({_first_line(error)}{_where(path)}); "
            "mend or replace it."
        ) from error


def _where(path: Path) -> str:
    """The line that broke the reader, where one can be found."""
    try:
        layout = sniff(path, lambda _: True).format
    except InputError:
        return ""
    line = None if layout is Format.PARQUET else faulty_line(path, layout)
    return f", in line {line}" if line else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _scan(path: Path, layout: Layout) -> pl.LazyFrame:
    match layout.format:
        case Format.PARQUET:
            return pl.scan_parquet(path, glob=False, hive_partitioning=False)
        case Format.JSON_LINES:
            return scan_json_lines(path)
        case Format.JSON_ARRAY:
            return read_json_array(path)
        case Format.LINES:
            return _scan_lines(path, layout)
        case _:
            return _scan_table(path, layout)


def _scan_table(path: Path, layout: Layout) -> pl.LazyFrame:
    frame = pl.scan_csv(
        path,
        separator=layout.separator,
        quote_char=None if layout.separator == "\t" else '"',
        infer_schema=False,
        truncate_ragged_lines=True,
        glob=False,
    )
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def _scan_lines(path: Path, layout: Layout) -> pl.LazyFrame:
    lines = pl.scan_lines(path, name="identifier", glob=False)
    text = pl.col("identifier").str.strip_prefix("\ufeff").str.strip_chars_end("\r")
    return lines.slice(int(layout.header)).select(text).filter(text.str.strip_chars() != "")
