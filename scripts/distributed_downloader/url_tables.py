"""The files of `urls_folder`, streamed from the staged rows and their places."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.io.partition import FileProviderArgs

from distributed_downloader import tables
from distributed_downloader.batching import Placement
from distributed_downloader.paths import Batch
from distributed_downloader.staging import LEADING, Staged


@dataclass(frozen=True, slots=True)
class Written:
    """What lies in the batches' files, counted there."""

    files: int
    rows: int


def write_batches(staged: Staged, placement: Placement, folder: Path) -> Written:
    """One `urls.parquet` per batch, out of core."""
    fetched = _rows(staged, placement).filter(pl.col("__server_name").is_not_null())
    columns = [*LEADING, *staged.others, "identifier_original"]
    frame = fetched.select(*columns, "__server_name", "__partition_id")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it may change, it says: versions are pinned
        target = pl.PartitionBy(
            folder,
            key=["__server_name", "__partition_id"],
            include_key=False,
            file_path_provider=_file_of,
            approximate_bytes_per_file=None,
        )
    if placement.rows["server_name"].null_count() < placement.rows.height:
        frame.sink_parquet(target, mkdir=True, engine="streaming")
    files = sorted(folder.glob("*/*/urls.parquet"))
    if not files:
        return Written(0, 0)
    rows = pl.scan_parquet(files, glob=False, hive_partitioning=False).select(pl.len())
    return Written(len(files), int(rows.collect().item()))


def _file_of(place: FileProviderArgs) -> str:
    server_name, partition_id = place.partition_keys.row(0)
    # A batch is one file. A second one would be a surprise: its name leaves it out of the count,
    # which then does not add up.
    name = "urls.parquet" if not place.index_in_partition else f"{place.index_in_partition}.parquet"
    return str(Batch(str(server_name), int(partition_id)).folder / name)


def write_rejected(staged: Staged, placement: Placement, path: Path) -> int:
    """The rejected rows as given, with the reason; how many they are."""
    columns = [name for name in LEADING if name not in ("identifier", "server")]
    rows = _rows(staged, placement).filter(pl.col("__reason").is_not_null())
    as_given = pl.coalesce("identifier_original", "identifier").alias("identifier")
    reason = pl.col("__reason").cast(pl.String).alias("reason")
    rows.select("uuid", "source_id", as_given, *columns[2:], *staged.others, reason).sink_parquet(
        path, engine="streaming"
    )
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def write_duplicates(placement: Placement, path: Path) -> int:
    """Which row is fetched in whose stead; how many are not fetched."""
    placement.duplicates.cast(tables.DUPLICATES).write_parquet(path)
    return placement.duplicates.height


def write_partitions(placement: Placement, path: Path) -> None:
    """One row a batch."""
    fetched = placement.rows.lazy().filter(pl.col("server_name").is_not_null())
    batches = fetched.group_by("server_name", "partition_id").agg(rows=pl.len())
    table = batches.collect().cast(tables.PARTITIONS)
    table.sort("server_name", "partition_id").write_parquet(path)


def _rows(staged: Staged, placement: Placement) -> pl.LazyFrame:
    """The staged rows beside their places (`__` in front)."""
    places = placement.rows.lazy().rename(lambda name: f"__{name}")
    places = places.with_columns(pl.col("__server_name").cast(pl.String))
    rows = pl.concat([staged.rows(), places], how="horizontal")
    return rows.with_columns(uuid=pl.coalesce("__new_uuid", "uuid"))
