"""Images that were received twice, byte for byte: the first stays, the others go.

The first is the one of the lowest partition_id, then server_name, then place in the table. Two
passes, so that ten million rows fit into a few hundred MB: the first looks at half of each hash,
the second reads the rows whose half occurs twice.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from distributed_downloader.paths import Batch
from distributed_downloader.tools.filters import PICKED, FilterRegister, PythonFilterToolBase
from distributed_downloader.tools.removal import RemovalRunner
from distributed_downloader.tools.runners import RunnerRegister
from distributed_downloader.tools.schedulers import DefaultScheduler, SchedulerRegister

NAME = "duplication_based"
HASH = "hashsum_original"
_HALF = pl.col(HASH).str.decode("hex").bin.slice(0, 8).bin.reinterpret(dtype=pl.UInt64)

Halves = npt.NDArray[np.uint64]


@FilterRegister(NAME)
class Repeats(PythonFilterToolBase):
    """Picks every image but the first of those that are equal."""

    def run(self) -> None:
        """Write the repeats, each with the image that stays (`_main`)."""
        candidates = pl.concat([_NO_CANDIDATES, *self._candidates()]).drop_nulls(HASH)
        first = [pl.col(name).first().over(HASH).alias(f"{name}_main") for name in PICKED]
        repeats = candidates.with_columns(first).filter(pl.col("uuid") != pl.col("uuid_main"))
        self.save_filter(repeats.drop(HASH))

    def batches(self) -> list[Batch]:
        """Lowest partition first, then by server."""
        return sorted(super().batches(), key=lambda batch: (batch.partition_id, batch.server_name))

    def _candidates(self) -> Iterator[pl.DataFrame]:
        """Images whose half hash occurs twice or more, in the order in which the first stays."""
        batches = self.batches()
        halves = [self._halves(batch) for batch in batches]
        repeated = _repeated(halves)
        for batch, of_batch in zip(batches, halves, strict=True):
            where = np.flatnonzero(_is_in(of_batch, repeated))
            if len(where):
                rows = self.images(batch).select(*PICKED, HASH).collect()
                yield rows[where]

    def _halves(self, batch: Batch) -> Halves:
        table = self.images(batch).select(_HALF.fill_null(0)).collect()
        return table[HASH].to_numpy()


_NO_CANDIDATES = pl.DataFrame(
    schema={
        **{name: pl.Int64 if name == "partition_id" else pl.String for name in PICKED},
        HASH: pl.String,
    }
)


def _repeated(halves: list[Halves]) -> Halves:
    """Those that occur twice or more, sorted."""
    everything = np.sort(np.concatenate([np.empty(0, np.uint64), *halves]))
    return np.unique(everything[1:][everything[1:] == everything[:-1]])


def _is_in(values: Halves, known: Halves) -> npt.NDArray[np.bool_]:
    if not len(known):
        return np.zeros(len(values), dtype=np.bool_)
    places = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.equal(known[places], values)


@SchedulerRegister(NAME)
class Scheduler(DefaultScheduler):
    """As every tool."""


@RunnerRegister(NAME)
class Removal(RemovalRunner):
    """Removes them."""

    reason = "same image as another row"
