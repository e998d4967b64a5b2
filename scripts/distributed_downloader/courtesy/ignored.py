"""The table of servers that must not be asked: a site owner said stop, or the user did.

`ignored.csv` has a column `server_name`, a host or a domain on each line; it is written by hand,
so it is read kindly: a lone column needs no header, URLs, wildcards and `#` comments do no harm.
An entry with a port stops that port only, one without stops the host and everything below it.
What stops nobody is refused: who wrote it meant somebody.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from distributed_downloader.errors import ConfigError
from distributed_downloader.urls.entries import entry_of, names_of, without_note

COLUMN = "server_name"
Line = tuple[int, list[str]]  # the number of a line, and its cells


def read_ignored(path: Path) -> frozenset[str]:
    """The table's entries, as `urls.entries` has them; no file, none.

    Raises ConfigError if it has several columns and none is `server_name`, and for a line that
    cannot be read or names no host.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return frozenset()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    rows = list(_rows(text, path))
    if not rows:
        return frozenset()
    column = _column(rows[0], path)
    cells = ((line, row[column]) for line, row in rows if row[column:])
    return frozenset(
        entry_of(cell, f"{path}, line {line},")
        for line, cell in cells
        if without_note(cell).lower() not in ("", COLUMN)
    )


def is_ignored(server: str, ignored: frozenset[str]) -> bool:
    """Whether this server (host or host:port), or a domain it lies under, is in the table."""
    return bool(ignored) and not ignored.isdisjoint(names_of(server))


def _rows(text: str, path: Path) -> Iterator[Line]:
    """Line by line, so that no quote takes the servers of the next lines with it."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not without_note(line):
            continue
        try:
            (cells,) = csv.reader([line], strict=True)
        except csv.Error:
            raise ConfigError(
                f'{path}, line {number}, has a " that does not end where its cell does: close or '
                "remove it, and give each server a line of its own."
            ) from None
        yield number, [cell.strip() for cell in cells]


def _column(first: Line, path: Path) -> int:
    names = _names(first[1])
    if COLUMN in names:
        return names.index(COLUMN)
    if len(names) > 1:
        raise ConfigError(
            f"{path} has the columns {', '.join(names)}: name the one with hosts {COLUMN}."
        )
    separator = next((sign for sign in ";\t|" if COLUMN in names[0].split(sign)), None)
    if separator:
        raise ConfigError(f"{path} has {separator!r} between its columns: put commas there.")
    return 0


def _names(header: Sequence[str]) -> list[str]:
    """The cells of the first line up to a note, which may have commas."""
    noted = next((at for at, cell in enumerate(header) if "#" in cell), len(header))
    return [without_note(cell).lower() for cell in header[: noted + 1]]
