"""Rows whose URL another row has too: one image is fetched for all, each keeps its metadata.

The table may hold more rows than memory: what is kept of each is a hash and a position.
"""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from distributed_downloader.lists.generations import Generation
from distributed_downloader.paths import OutputPaths
from distributed_downloader.tables import DUPLICATES

OWN = ("uuid", "source_id", "identifier", "license", "source", "title")  # what a row says of itself


class Duplicates:
    """`duplicates.parquet`, asked by uuid; no such file, no duplicates."""

    def __init__(self, path: Path) -> None:
        """Nothing is read before it is asked for."""
        self.path = path
        self._lock = threading.Lock()
        self._by_hash: tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]] | None = None

    @classmethod
    def of_images(cls, images: Path) -> "Duplicates":
        """Those of the list that an images folder came from; a tool's lies in <tools>/<tool>/."""
        own, *tools = images.parent, *images.parents[2:3]
        tables = [
            Generation.of(OutputPaths.of(root, {"images_folder": images.name})).duplicates
            for root in (own, *tools)
        ]
        return cls(next(filter(Path.is_file, tables), tables[0]))

    def table(self) -> pl.LazyFrame:
        """uuid, uuid_main, source_id and what else the input said of each, one row a duplicate."""
        if not self.path.is_file():
            return pl.LazyFrame(schema=DUPLICATES)
        return pl.scan_parquet(self.path, glob=False, hive_partitioning=False)

    def main_of(self, uuid: str) -> str | None:
        """The uuid of the row that is fetched for this one; None if this is no duplicate."""
        row = self.row(uuid, ["uuid", "uuid_main"])
        return None if row is None else str(row["uuid_main"])

    def row(self, uuid: str, columns: list[str] | None = None) -> dict[str, Any] | None:
        """What the input said of this duplicate; None if it is none."""
        hashes, order = self._index()
        wanted = pl.Series([uuid]).hash()[0]
        for place in range(int(hashes.searchsorted(wanted)), len(hashes)):
            if hashes[place] != wanted:
                return None
            frame = self.table() if columns is None else self.table().select(columns)
            row = frame.slice(int(order[place]), 1).collect().row(0, named=True)
            if row["uuid"] == uuid:
                return row
        return None

    def _index(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        with self._lock:
            if self._by_hash is None:
                hashes = self.table().select(pl.col("uuid").hash()).collect()["uuid"].to_numpy()
                order = np.argsort(hashes, kind="stable")
                self._by_hash = hashes[order], order
            return self._by_hash
