"""The first step: pick images, and write CSV files with them.

A filter table has the columns of PICKED, and what else a tool has to say of a row. Our bases write
one file for each partition that has picked images; a filter of yours may write any files there.
"""

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from distributed_downloader.errors import FolderError
from distributed_downloader.paths import Batch
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.tools.base import SERVER_NAME, ToolsBase
from distributed_downloader.tools.registry import FilterRegister

__all__ = ["PICKED", "ExpressionFilter", "FilterRegister", "PythonFilterToolBase"]

PICKED = ("uuid", "source_id", "server_name", "partition_id")
PARTITION = ("server_name", "partition_id")
_NONE_PICKED = pl.DataFrame(
    schema={name: pl.Int64 if name == "partition_id" else pl.String for name in PICKED}
)


class PythonFilterToolBase(ToolsBase):
    """Picks every image; override `select` to pick some, or `run` to do it your way."""

    def run(self) -> None:
        """Write the filter table, partition after partition."""
        for batch in self.batches():
            images = self.images(batch)
            self.save_partition(batch, self.select(images).select(*PICKED).collect())

    def select(self, images: pl.LazyFrame) -> pl.LazyFrame:
        """The images of one partition that the tool is about; `images` as `images()` has them."""
        return images

    def images(self, batch: Batch) -> pl.LazyFrame:
        """The images of a partition: tables.SUCCESSES, server_name and partition_id."""
        return BatchFiles.of(self.paths.batch_images(batch)).images().with_columns(named(batch))

    def save_filter(self, table: Any) -> None:
        """Write a table (polars, or pandas) of images of any partitions as filter table."""
        if not isinstance(table, pl.DataFrame):
            table = pl.DataFrame({name: list(column) for name, column in table.items()})
        for (server, number), rows in table.group_by(*PARTITION, maintain_order=True):
            self.save_partition(Batch(str(server), int(str(number))), rows)

    def save_partition(self, batch: Batch, rows: pl.DataFrame) -> None:
        """Write the picked images of one partition; none leave no file."""
        if rows.is_empty():
            return
        self.filter_table.mkdir(parents=True, exist_ok=True)
        rows.write_csv(self.filter_table / file_name(batch))


class ExpressionFilter(PythonFilterToolBase):
    """Picks the images for which a polars expression over successes.parquet is true."""

    def expression(self) -> pl.Expr:
        """Which images; `self.parameters` are the settings."""
        raise NotImplementedError(f"{type(self).__name__} has no method expression")

    def select(self, images: pl.LazyFrame) -> pl.LazyFrame:
        """Those for which the expression is true; null is false."""
        return images.filter(self.expression())


def named(batch: Batch) -> list[pl.Expr]:
    """The two columns that name a partition."""
    return [
        pl.lit(batch.server_name).alias("server_name"),
        pl.lit(batch.partition_id, pl.Int64).alias("partition_id"),
    ]


def file_name(batch: Batch) -> str:
    """The file of a partition in a filter table."""
    return f"{quote(batch.server_name, safe='')}-{batch.partition_id}.csv"


def clear_filter_table(folder: Path) -> None:
    """Begin anew: what an earlier run picked is not what this one does."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def read_picked(folder: Path, batch: Batch) -> pl.DataFrame:
    """The filter table's rows of one partition, all as text but partition_id."""
    own = folder / file_name(batch)
    files = [own] if own.exists() else sorted(folder.glob("*.csv"))
    mine = (pl.col("server_name") == batch.server_name) & (
        pl.col("partition_id") == batch.partition_id
    )
    tables = [_scan(file).filter(mine).collect() for file in files]
    return pl.concat([_NONE_PICKED, *tables], how="diagonal_relaxed")


def read_partitions(folder: Path) -> dict[Batch, int]:
    """How many images were picked, by partition. Raises FolderError for a table it cannot read."""
    found: dict[Batch, int] = {}
    for file in sorted(folder.glob("*.csv")):
        try:
            counts = _scan(file).group_by(*PARTITION).len().collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise FolderError(
                f"{file} is no filter table ({' '.join(str(error).split())[:200]}): it needs the "
                f"columns {', '.join(PICKED)}."
            ) from error
        for server, number, rows in counts.iter_rows():
            batch = Batch(server, number)
            found[batch] = found.get(batch, 0) + rows
    return found


def _scan(file: Path) -> pl.LazyFrame:
    table = pl.scan_csv(file, infer_schema=False, glob=False).with_columns(SERVER_NAME)
    return table.cast({"partition_id": pl.Int64})
