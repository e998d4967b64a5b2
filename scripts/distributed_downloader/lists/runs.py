"""An external sort: rows with a `batch`, in sorted runs on disk, read back batch after batch.

polars' own partitioned sink holds all rows until its end (1.2 GB for 5 million, 4.8 for 20), so it
is not used. Here memory depends on the size of a run and of the largest batch, however many rows:
1. a run is as many rows as fit in memory, sorted by batch (their order stays within one);
2. a slab is a range of batches: the slices that the runs have of it, put together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

_ROW_GROUP = 16_384  # rows: what a slice of a run reads too much, at most, at each of its ends


@dataclass(frozen=True, slots=True)
class Run:
    """A file of rows sorted by batch; `starts[slab]` is the first row of that slab."""

    path: Path
    starts: list[int]


def slabs_of(batches: pl.DataFrame, rows: int) -> list[int]:
    """The first batch of each slab, and the end; slabs of about so many rows, a batch at least."""
    starts, held = [0], 0
    for batch, size in enumerate(batches["rows"]):
        if held and held + size > rows:
            starts.append(batch)
            held = 0
        held += size
    return [*starts, batches.height]


def write_run(rows: pl.DataFrame, slabs: list[int], path: Path) -> Run:
    """Sort the fetched ones of these rows into a new run."""
    fetched = rows.filter(pl.col("batch").is_not_null()).sort("batch", maintain_order=True)
    fetched.write_parquet(path, compression="lz4", statistics=False, row_group_size=_ROW_GROUP)
    starts = fetched["batch"].search_sorted(pl.Series(slabs, dtype=pl.UInt32), side="left")
    return Run(path, starts.to_list())


def read_slab(runs: list[Run], slab: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """The batches of one slab, each with its rows in the order of the input."""
    slices = [
        pl.scan_parquet(run.path, glob=False).slice(
            run.starts[slab], run.starts[slab + 1] - run.starts[slab]
        )
        for run in runs
        if run.starts[slab + 1] > run.starts[slab]
    ]
    if not slices:
        return
    rows = pl.concat(pl.collect_all(slices)).sort("batch", maintain_order=True)
    ends = rows["batch"].rle().struct.unnest()
    start = 0
    for length, batch in ends.select("len", "value").iter_rows():
        yield batch, rows.slice(start, length)
        start += length
