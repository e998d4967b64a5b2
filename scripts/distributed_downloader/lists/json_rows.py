"""Rows that are JSON objects: one a line, or all in one array.

Values that are no strings become their JSON text. A JSON array is read into memory, for it cannot
be read in pieces; JSON lines are not. Whatever is no object is refused, and so is what follows an
array in its file: no row is lost in silence.
"""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import polars as pl

from distributed_downloader.errors import InputError
from distributed_downloader.lists.formats import HEAD_BYTES, open_unpacked

ROWS_AT_ONCE = 100_000

_GAP = re.compile(r"[,\s]*")


def scan_json_lines(path: Path) -> pl.LazyFrame:
    """One object a line, all columns as text. Raises ValueError for a line that is none."""
    try:
        names = pl.scan_ndjson(path, infer_schema_length=None).collect_schema().names()
    except (pl.exceptions.SchemaError, pl.exceptions.ComputeError):  # a column of several types
        names = _names_in_json_lines(path)
    frame = pl.scan_ndjson(path, schema=dict.fromkeys(names, pl.String))
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def read_json_array(path: Path) -> pl.LazyFrame:
    """One array of objects, all columns as text.

    Raises InputError if it is empty, ValueError if it is broken or not alone in its file.
    """
    with open_unpacked(path) as stream, io.TextIOWrapper(stream, "utf-8-sig") as text:
        pieces = list(_tables_of_array(text))
    if not pieces:
        raise InputError(f"{path} is an empty list; give one with at least one URL.")
    return pl.concat(pieces, how="diagonal").lazy()


def _names_in_json_lines(path: Path) -> list[str]:
    names: dict[str, None] = {}
    with open_unpacked(path) as stream, io.TextIOWrapper(stream, "utf-8-sig") as lines:
        for line in lines:
            if line.strip():
                names |= dict.fromkeys(_object(json.loads(line)))
    return list(names)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"not an object: {json.dumps(value)[:100]}")
    return value


def _tables_of_array(stream: IO[str]) -> Iterator[pl.DataFrame]:
    rows: list[dict[str, str | None]] = []
    for value in _values_of_array(stream):
        rows.append({name: _json_text(each) for name, each in _object(value).items()})
        if len(rows) == ROWS_AT_ONCE:
            yield _table(rows)
            rows = []
    if rows:
        yield _table(rows)


def _table(rows: list[dict[str, str | None]]) -> pl.DataFrame:
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String))


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _values_of_array(stream: IO[str]) -> Iterator[Any]:
    """The values of one JSON array, without holding all of its text."""
    decoder = json.JSONDecoder()
    text, at = stream.read(HEAD_BYTES).lstrip()[1:], 0
    while True:
        start = at + len(_GAP.match(text, at)[0])  # type: ignore[index]  # it matches nothing too
        if text.startswith("]", start):
            _check_end(text[start + 1 :], stream)
            return
        try:
            value, at = decoder.raw_decode(text, start)
        except json.JSONDecodeError:
            more = stream.read(HEAD_BYTES)
            if not more:
                raise
            text, at = text[start:] + more, 0
        else:
            yield value


def _check_end(text: str, stream: IO[str]) -> None:
    """Nothing but white space follows an array."""
    while not text.strip():
        text = stream.read(HEAD_BYTES)
        if not text:
            return
    raise ValueError(f"{text.strip()[:50]!r} follows the ] at the end of its list")
