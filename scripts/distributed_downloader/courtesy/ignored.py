"""The table of servers that must not be asked: a site owner said stop, or the user did.

`ignored.csv` has a column `server_name`, a host or a domain on each line; it is written by hand,
so it is read kindly: a lone column needs no header, URLs, wildcards and `#` comments do no harm.
An entry with a port stops that port only, one without stops the host and everything below it.
"""

import csv
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from distributed_downloader.courtesy.groups import parents
from distributed_downloader.errors import ConfigError
from distributed_downloader.urls.authorities import host_of

_PORT = re.compile(r"^(\[.*\]|[^:]*):\d+$")
COLUMN = "server_name"


def read_ignored(path: Path) -> frozenset[str]:
    """Hosts and domains of the table, in lower case; no file, none.

    Raises ConfigError if it has several columns and none is `server_name`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return frozenset()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    if not rows:
        return frozenset()
    entries = (row[column] for row in rows for column in [_column(rows[0], path)] if row[column:])
    return frozenset(name for entry in entries if (name := _name(entry)) not in ("", COLUMN))


def is_ignored(server: str, ignored: frozenset[str]) -> bool:
    """Whether this server (host or host:port), or a domain it lies under, is in the table."""
    if not ignored:
        return False
    return server.lower() in ignored or any(name in ignored for name in parents(host_of(server)))


def _column(header: list[str], path: Path) -> int:
    if COLUMN in header:
        return header.index(COLUMN)
    if len(header) > 1:
        raise ConfigError(
            f"{path} has the columns {', '.join(header)}: name the one with hosts {COLUMN}."
        )
    return 0


def _name(entry: str) -> str:
    """A host or domain out of what people write: `https://Example.org/x`, `*.example.org`."""
    name = entry.lower()
    if "/" in name:
        name = urlsplit(name if "//" in name else f"//{name}").netloc.rpartition("@")[2]
    name = name.removeprefix("*").strip(".")
    if not name.isascii():
        with suppress(UnicodeError):
            name = name.encode("idna").decode("ascii")
    return name if _PORT.search(name) else host_of(name)
