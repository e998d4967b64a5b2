"""What the ledger is held against: the tables of the list, and each other.

Sentences, not errors: whoever counts says all of them at once.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from distributed_downloader.accounts.repeats import Repeats, hash_of
from distributed_downloader.errors import LedgerError
from distributed_downloader.lists.generations import Generation
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import State

SLICE_ROWS = 500_000


def listed_batches(paths: OutputPaths) -> pl.DataFrame:
    """server_name, partition_id and the rows that the list still has. Raises LedgerError."""
    if not paths.partitions.is_file():
        raise LedgerError(
            f"{paths.partitions} is missing: nothing was partitioned yet, or it was removed. "
            "Run the workflow with the same config again."
        )
    live = pl.col("rows") - pl.col("gone")
    current = Generation.of(paths)
    current.check()
    return current.partitions().select("server_name", "partition_id", live)


def slices(file: Path) -> Iterator[pl.DataFrame]:
    """A table in pieces that fit into memory; none if there is no file."""
    if not file.is_file():
        return
    table = pl.scan_parquet(file, hive_partitioning=False)
    for start in range(0, _count(file), SLICE_ROWS):
        yield table.slice(start, SLICE_ROWS).collect()


def totals(paths: OutputPaths, partitions: pl.DataFrame) -> Iterator[str]:
    """Input rows = fetchable + duplicates + rejected, and no batch is on one side only."""
    listed = {Batch(server, number) for server, number, _ in partitions.iter_rows()}
    for folder in sorted(paths.urls.glob("server_name=*/partition_id=*")):
        if Batch.from_folder(folder) not in listed:
            yield f"{folder} is not in {paths.partitions.name}"
    for folder in sorted(paths.images.glob("server_name=*/partition_id=*")):
        if Batch.from_folder(folder) not in listed:
            yield f"{folder} has images of a batch that is not in {paths.partitions.name}"
    current = Generation.of(paths)
    source = (current.source or {}).get("counts")
    if source is None:
        yield f"{paths.source} is missing"
        return
    fetchable = int(partitions["rows"].sum())
    duplicates, rejected = _count(current.duplicates), _count(current.rejected)
    if source["rows"] != fetchable + duplicates + rejected:
        yield (
            f"the input had {source['rows']} rows, but {fetchable} fetchable + "
            f"{duplicates} duplicates + {rejected} rejected = {fetchable + duplicates + rejected}"
        )


def _count(file: Path) -> int:
    if not file.is_file():
        return 0
    return int(pl.scan_parquet(file).select(pl.len()).collect().item())


def repeated(repeats: Repeats, ledger: Path) -> Iterator[str]:
    """uuids that occur twice, with the batches they are in."""
    hashes = repeats.hashes()
    if not hashes:
        return
    rows = (
        pl.scan_parquet(ledger)
        .filter(pl.col("state") != State.REJECTED.value)
        .filter(hash_of(pl.col("uuid")).is_in(hashes))
        .select("uuid", "server_name", "partition_id")
        .collect(engine="streaming")
    )
    twice = rows.group_by("uuid").agg(pl.len(), "server_name", "partition_id")
    for uuid, count, servers, numbers in twice.filter(pl.col("len") > 1).sort("uuid").iter_rows():
        places = [
            "duplicates.parquet" if server is None else str(Batch(server, number).folder)
            for server, number in zip(servers, numbers, strict=True)
        ]
        yield f"the uuid {uuid} occurs {count} times: in {', '.join(places)}"
