"""Where the modes of a lane are, and what their servers have written down."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from distributed_downloader.fleet.judge import ACCESS
from tests.chaos.modes import Words


@dataclass(frozen=True, slots=True)
class Place:
    """A mode at one server of a lane: where it is, and what may become of each of its paths."""

    mode: str
    name: str  # in the log
    host: str  # in URLs
    address: str
    base: str  # of URLs: http://host:port
    rows: Mapping[str, Words]

    def words(self) -> dict[str, Words]:
        """What may become of each URL."""
        return {self.base + path: words for path, words in self.rows.items()}


class Log:
    """What the servers of one lane have written down, as it grows; their `url` with it."""

    def __init__(self, file: Path, places: Mapping[str, Place]) -> None:
        self._file, self._at = file, 0
        self._bases = pl.DataFrame(
            {"host": [p.name for p in places.values()], "base": [p.base for p in places.values()]}
        )
        self._rows = pl.DataFrame(schema={**ACCESS, "url": pl.String})

    def accesses(self) -> pl.DataFrame:
        """All requests so far, in the order of their arrival at their server's process."""
        with self._file.open("rb") as file:
            file.seek(self._at)
            news = file.read()
        news = news[: news.rfind(b"\n") + 1]
        if news:
            self._at += len(news)
            rows = pl.read_ndjson(news, schema=ACCESS).join(
                self._bases, on="host", maintain_order="left"
            )
            rows = rows.select(*ACCESS, url=pl.col("base") + pl.col("path"))
            self._rows = pl.concat([self._rows, rows])
        return self._rows
