"""The files of `urls_folder`, written from the staged rows and their places."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from distributed_downloader import tables
from distributed_downloader.checksums import write_sealed
from distributed_downloader.lists.ahead import in_order
from distributed_downloader.lists.batching import Placement, with_new_uuids
from distributed_downloader.lists.runs import Run, read_slab, slabs_of, write_run
from distributed_downloader.lists.staging import LEADING, Staged
from distributed_downloader.paths import Batch

RUN_BYTES = 128 << 20
_SLAB_ROWS = 250_000
_AS_GIVEN = (
    pl.col("source_id"),
    pl.coalesce("identifier_original", "identifier").alias("identifier"),
    *(pl.col(name) for name in ("license", "source", "title")),
)
_WRITERS = 2  # polars uses every core already; these hide what a file costs beside its rows


@dataclass(frozen=True, slots=True)
class Written:
    """What lies in the files, counted there."""

    batches: int
    fetchable: int
    duplicates: int
    rejected: int


def write_rows(staged: Staged, placement: Placement, folder: Path, scratch: Path) -> Written:
    """Every batch's `urls.parquet`, `rejected.parquet` and `duplicates.parquet`, out of core."""
    slabs = slabs_of(placement.batches, _SLAB_ROWS)

    def written(numbered: tuple[int, pl.DataFrame]) -> Run:
        number, rows = f"{numbered[0]:06}.parquet", numbered[1]
        _rejected(rows, staged).write_parquet(scratch / f"rejected-{number}")
        _duplicates(rows, staged, placement).write_parquet(scratch / f"duplicates-{number}")
        return write_run(rows, slabs, scratch / f"run-{number}")

    with ThreadPoolExecutor(_WRITERS) as writers:
        pieces = enumerate(_placed_rows(staged, placement))
        runs = list(in_order(writers, written, pieces, ahead=_WRITERS))
    batches = _write_batches(staged, placement, runs, folder)
    for table in ("rejected", "duplicates"):
        written_of = pl.scan_parquet(sorted(scratch.glob(f"{table}-*")), glob=False)
        write_sealed(folder / f"{table}.parquet", written_of)
    return Written(
        batches=len(batches),
        fetchable=_rows_in(batches),
        duplicates=_rows_in([folder / "duplicates.parquet"]),
        rejected=_rows_in([folder / "rejected.parquet"]),
    )


def _placed_rows(staged: Staged, placement: Placement) -> Iterator[pl.DataFrame]:
    """All staged rows with `row`, `batch`, `reason` and their final uuid, a memory full at once."""
    held: list[pl.DataFrame] = []
    start = 0
    for file in staged.files:
        rows = pl.read_parquet(file, glob=False)
        rows = rows.with_row_index("row", start).hstack(placement.rows.slice(start, rows.height))
        start += rows.height
        held.append(_renamed(rows, placement.new_uuids))
        if sum(each.estimated_size() for each in held) >= RUN_BYTES:
            yield pl.concat(held)
            held = []
    if held:
        yield pl.concat(held)


def _renamed(rows: pl.DataFrame, new_uuids: pl.DataFrame) -> pl.DataFrame:
    first, last = rows["row"][0], rows["row"][-1]
    new = new_uuids.filter(pl.col("row").is_between(first, last))
    return with_new_uuids(rows, new) if new.height else rows


def write_partitions(placement: Placement, path: Path) -> None:
    """One row a batch."""
    batches = placement.batches.select(tables.PARTITIONS.names())
    write_sealed(path, batches.cast(tables.PARTITIONS))


def _rejected(rows: pl.DataFrame, staged: Staged) -> pl.DataFrame:
    """The rejected ones of these rows as given, with the reason."""
    rejected = rows.filter(pl.col("reason").is_not_null())
    return rejected.select("uuid", *_AS_GIVEN, *staged.others, pl.col("reason").cast(pl.String))


def _duplicates(rows: pl.DataFrame, staged: Staged, placement: Placement) -> pl.DataFrame:
    """The duplicates among these rows as given, with the row that is fetched for them."""
    duplicates = rows.join(placement.duplicates, on="row", maintain_order="left")
    return duplicates.select("uuid", "uuid_main", *_AS_GIVEN, *staged.others)


def _write_batches(
    staged: Staged, placement: Placement, runs: list[Run], folder: Path
) -> list[Path]:
    columns = [*LEADING, *staged.others, "identifier_original"]
    names = list(placement.batches.select("server_name", "partition_id").iter_rows())
    written: list[Path] = []

    def write(batch: int, rows: pl.DataFrame) -> Path:
        file = folder / Batch(*names[batch]).folder / "urls.parquet"
        file.parent.mkdir(parents=True)
        write_sealed(file, rows.select(columns), compression_level=1, statistics=False)
        return file

    slabs = len(runs[0].starts) - 1 if names else 0
    with ThreadPoolExecutor(_WRITERS) as writers, ThreadPoolExecutor(1) as reader:
        read = in_order(reader, lambda slab: list(read_slab(runs, slab)), range(slabs), ahead=2)
        for batches in read:
            written += writers.map(lambda each: write(*each), batches)
    return written


def _rows_in(files: list[Path]) -> int:
    if not files:
        return 0
    rows = pl.scan_parquet(files, glob=False, hive_partitioning=False).select(pl.len())
    return int(rows.collect().item())
