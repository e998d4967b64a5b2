"""Tombstones (tables.TOMBSTONES): rows that the list has no more, gathered into one table."""

from pathlib import Path

import polars as pl

from distributed_downloader import tables
from distributed_downloader.checksums import write_sealed
from distributed_downloader.lists.placed import SLAB_ROWS

GONE, URL_CHANGED = "gone", "url_changed"  # the reasons
GROUP_ROWS = 50_000  # of the table: what is read for one batch, at most


class Graves:
    """Collects tombstones; what memory need not hold waits in files."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._held = [pl.DataFrame(schema=tables.TOMBSTONES)]
        self._files: list[Path] = []

    def add(self, rows: pl.DataFrame) -> None:
        """Take the next ones, in the order of batches."""
        self._held.append(rows)
        if sum(each.height for each in self._held) >= SLAB_ROWS:
            self._put_down()

    def write(self, path: Path) -> None:
        """All of them as one table."""
        self._put_down()
        rows = pl.scan_parquet(self._files, glob=False)
        write_sealed(path, rows, row_group_size=GROUP_ROWS)

    def _put_down(self) -> None:
        self._files.append(self._scratch / f"gone-{len(self._files):06}.parquet")
        pl.concat(self._held).write_parquet(self._files[-1])
        self._held = [pl.DataFrame(schema=tables.TOMBSTONES)]
