"""Which list a folder holds now: the one it began with, or what that has grown to since.

    urls/                    generation 0: partitions.parquet, source.json, ... and all batches
    urls/generations/<n>/    generation n, whole or not there: the same tables, and tombstones

1. A generation's partitions.parquet names every batch there is, old ones first made included, with
   `rows` (in its urls.parquet) and `gone` (how many of them the list has no more).
2. Batches are never written again: what a list has lost stands in tombstones.parquet alone.
3. The newest generation counts. `settled.json` in it says that what follows from it is done: until
   then the same command does that again.
4. A table that is not what was written is believed in nothing: who reads it ends with the way out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader import tables
from distributed_downloader.checksums import is_whole
from distributed_downloader.durable import read_json
from distributed_downloader.errors import LedgerError
from distributed_downloader.paths import Batch, OutputPaths

SETTLED_NAME = "settled.json"


@dataclass(frozen=True, slots=True)
class Generation:
    """The tables of one list."""

    number: int
    folder: Path

    @classmethod
    def of(cls, paths: OutputPaths) -> "Generation":
        """The newest one; number 0 if the list has not changed, or nothing is partitioned yet."""
        found = paths.generations
        names = found.iterdir() if found.is_dir() else ()
        number = max((int(each.name) for each in names if each.name.isdecimal()), default=0)
        return cls(number, found / str(number) if number else paths.urls)

    @property
    def source(self) -> Any:
        """The content of source.json; None if nothing is partitioned yet. Raises LedgerError."""
        file = self.folder / "source.json"
        try:
            return read_json(file)
        except ValueError as error:
            raise self._damaged(file, file) from error

    @property
    def rejected(self) -> Path:
        """Input rows that cannot be fetched, as given, with the reason."""
        return self.folder / "rejected.parquet"

    @property
    def duplicates(self) -> Path:
        """Rows whose URL another row has too."""
        return self.folder / "duplicates.parquet"

    @property
    def tombstones(self) -> Path:
        """Rows of batches that the list has no more, sorted by batch; absent in generation 0."""
        return self.folder / "tombstones.parquet"

    @property
    def settled(self) -> Path:
        """Says that what follows from this generation is done."""
        return self.folder / SETTLED_NAME

    def partitions(self) -> pl.DataFrame:
        """server_name, partition_id, rows, gone: one row a batch. Raises LedgerError."""
        table = pl.read_parquet(self._believed(self.folder / "partitions.parquet"))
        if "gone" not in table.columns:
            table = table.with_columns(gone=pl.lit(0, pl.Int64))
        return table.select(*tables.PARTITIONS.names(), "gone")

    def check(self) -> None:
        """Read its other tables, too, to the last byte. Raises LedgerError."""
        for file in (self.rejected, self.duplicates, self.tombstones):
            if file.is_file():
                self._believed(file)

    def _believed(self, file: Path) -> Path:
        if not is_whole(file):
            raise self._damaged(file)
        return file

    def _damaged(self, file: Path, *also: Path) -> LedgerError:
        doomed = [self.folder] if self.number else [self.folder / "partitions.parquet", *also]
        return LedgerError(
            f"{file} is not what was written: remove {' and '.join(map(str, doomed))} and run the "
            "same command again, which cuts the list anew, as it was; images stay."
        )

    def gone_of(self, batch: Batch) -> pl.Series:
        """The uuids of the batch's rows that the list has no more."""
        if not self.number:
            return pl.Series("uuid", [], pl.String)
        return gone_rows(self.tombstones, batch)["uuid"]


def lost_rows(paths: OutputPaths, batches: str) -> LedgerError:
    """What to say of batches whose urls.parquet cannot be believed, or is not there.

    The first list can be cut anew, into the very same batches. One that has grown cannot: where its
    old rows were is known from nothing else.
    """
    if Generation.of(paths).number:
        way_out = (
            f"give another path_to_output, with `previous_output: {paths.root}`, which takes over "
            "all images that are there"
        )
    else:
        way_out = (
            f"remove {paths.partitions} and run the same command again, which cuts the list anew, "
            "as it was; images stay"
        )
    return LedgerError(f"{batches}. If files of the list are lost or damaged: {way_out}.")


def gone_rows(tombstones: Path, batch: Batch) -> pl.DataFrame:
    """The tombstones (tables.TOMBSTONES) of one batch; none if there is no such table."""
    if not tombstones.is_file():
        return pl.DataFrame(schema=tables.TOMBSTONES)
    table = pl.scan_parquet(tombstones, hive_partitioning=False)
    return table.filter(
        (pl.col("server_name") == batch.server_name)
        & (pl.col("partition_id") == batch.partition_id)
    ).collect()


def rows_by_batch(paths: OutputPaths) -> dict[Batch, int]:
    """Every batch with its rows that the list still has, in the order of their names."""
    table = Generation.of(paths).partitions()
    live = table.select("server_name", "partition_id", pl.col("rows") - pl.col("gone"))
    return {Batch(server, number): rows for server, number, rows in live.iter_rows()}
