"""What a file of the input is, judged by its content: a name's ending is only a habit.

1. Gzip, zstd and parquet are known by their first bytes; other packings are refused by name.
2. Text is UTF-8. `[` starts a JSON array, `{` JSON lines.
3. Otherwise the first line is a header if it holds the name of the URL column. A tab in it means
   tab-separated, in GBIF's manner: no quoting, quotes are data. Else the commonest of `,` `;` `|`
   separates, and double quotes quote. A header of one column: one URL a line follows.
4. A first line that is a URL itself starts a plain list: one URL a line, no header.
"""

import codecs
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, cast

import zstandard

from distributed_downloader.errors import InputError
from distributed_downloader.urls.normalise import Normalised, normalise_url

HEAD_BYTES = 1 << 16

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_PARQUET = b"PAR1"
_REFUSED = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet): unpack it and give the table inside",
    b"BZh": "compressed by bzip2: unpack it, or compress it by gzip or zstd",
    b"\xfd7zXZ": "compressed by xz: unpack it, or compress it by gzip or zstd",
    b"%PDF": "a PDF",
    b"\xff\xfe": "text in UTF-16: save it as UTF-8",
    b"\xfe\xff": "text in UTF-16: save it as UTF-8",
}
_WAY_OUT = (
    "path_to_input takes tab- or comma-separated text, JSON, parquet, "
    "or a text file with one URL a line"
)


class Format(StrEnum):
    """How the rows of a file are written."""

    PARQUET = "parquet"
    JSON_LINES = "json_lines"
    JSON_ARRAY = "json_array"
    TABLE = "table"  # separated values under a header line
    LINES = "lines"  # one URL a line


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is to be read."""

    format: Format
    separator: str = ","
    header: bool = True  # of TABLE and LINES


@contextmanager
def open_unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, gunzipped or un-zstd-ed if they are packed so."""
    with path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        if magic.startswith(_GZIP):
            with gzip.open(raw) as unpacked:
                yield cast(IO[bytes], unpacked)
        elif magic == _ZSTD:
            with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as stream:
                yield stream
        else:
            yield raw


def sniff(path: Path, is_url_column: Callable[[str], bool]) -> Layout:
    """The layout of a file that is not empty. Raises InputError, with the way out."""
    head = _head(path)
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            raise InputError(f"{path} is {what}; {_WAY_OUT}.")
    if head.startswith(_PARQUET):
        return Layout(Format.PARQUET)
    text = _decoded(path, head).lstrip()
    if not text:
        raise InputError(f"{path} is empty; {_WAY_OUT}.")
    if text.startswith("{"):
        return Layout(Format.JSON_LINES)
    if text.startswith("[") and text[1:].lstrip()[:1] in ("{", "]", ""):
        return Layout(Format.JSON_ARRAY)
    return _text_layout(path, text, is_url_column)


def _head(path: Path) -> bytes:
    try:
        with open_unpacked(path) as stream:
            return stream.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"Cannot read {path}: {error}; is it whole and readable?") from error


def _decoded(path: Path, head: bytes) -> str:
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"{path} is not text in UTF-8; {_WAY_OUT}.")
    return text


def _text_layout(path: Path, text: str, is_url_column: Callable[[str], bool]) -> Layout:
    line = text.splitlines()[0]
    separator = separator_of(line)
    names = [name.strip().strip('"') for name in line.split(separator)]
    first_is_url = line.strip().strip('"').lower().startswith(("http:", "https:", "//"))
    if first_is_url and "\t" in line:
        raise InputError(
            f"{path} has several columns and no header line; "
            "give it a first line with their names, one of them identifier."
        )
    if not first_is_url and len(names) > 1:
        _check_header(path, names, separator, text.splitlines()[1:-1])
        return Layout(Format.TABLE, separator)
    if is_url_column(names[0]):
        return Layout(Format.LINES, header=True)
    if any(isinstance(normalise_url(text), Normalised) for text in text.splitlines()[:100]):
        return Layout(Format.LINES, header=False)
    raise InputError(
        f"{path} has neither a URL in its first lines nor a column identifier, "
        f"its first line is {line[:200]!r}; {_WAY_OUT}."
    )


def _check_header(path: Path, names: list[str], separator: str, lines: list[str]) -> None:
    """No name twice, and rows that are separated as their header is."""
    twice = next((name for at, name in enumerate(names) if name and name in names[:at]), None)
    if twice:
        raise InputError(f"{path} has the column {twice} twice in its line 1: rename one of them.")
    rows = [line for line in lines[:100] if line.strip()]
    other = next((sign for sign in ",;|\t" if rows and all(sign in row for row in rows)), separator)
    if other != separator and not any(separator in row for row in rows):
        raise InputError(
            f"{path} has {separator!r} between the columns of its line 1 and {other!r} in line 2 "
            f"({rows[0][:100]!r}): give both the same."
        )


def faulty_line(path: Path, layout: Format) -> int | None:
    """The first line that is no UTF-8, or no JSON object if rows are that; None if none is."""
    number = 0
    try:
        with open_unpacked(path) as stream:
            for line in stream:
                number += 1
                text = line.decode("utf-8-sig")
                is_row = layout is Format.JSON_LINES and text.strip()
                if is_row and not isinstance(json.loads(text), dict):
                    return number
    except (ValueError, RecursionError):  # the latter: JSON that is nested without end
        return number
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):
        return None
    return None


def separator_of(line: str) -> str:
    """What separates the columns of this header line; a comma if nothing does."""
    if "\t" in line:
        return "\t"
    unquoted = "".join(line.split('"')[::2])
    return max(",;|", key=unquoted.count)
