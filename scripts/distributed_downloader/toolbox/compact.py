"""Reclaims the bytes of removed images, which cannot be restored any more after that."""

import logging

import polars as pl

from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.storage.removal import compact_batch
from distributed_downloader.tools.filters import PICKED, FilterRegister, PythonFilterToolBase, named
from distributed_downloader.tools.partition import Partition
from distributed_downloader.tools.runners import SEEN, MPIRunnerTool, RunnerRegister
from distributed_downloader.tools.schedulers import DefaultScheduler, SchedulerRegister
from distributed_downloader.wording import size

log = logging.getLogger(__name__)

NAME = "compact"
HAS_BYTES = pl.col("file").is_not_null()


@FilterRegister(NAME)
class RemovedImages(PythonFilterToolBase):
    """Picks removed images whose bytes are still there."""

    def run(self) -> None:
        """Write them, partition after partition."""
        for batch in self.batches():
            removed = BatchFiles.of(self.paths.batch_images(batch)).removed()
            rows = removed.filter(HAS_BYTES).with_columns(named(batch)).select(*PICKED)
            self.save_partition(batch, rows.collect())


@SchedulerRegister(NAME)
class Scheduler(DefaultScheduler):
    """As every tool."""


@RunnerRegister(NAME)
class Compaction(MPIRunnerTool):
    """Writes what is left of their shards anew."""

    @property
    def results_place(self) -> str:
        """Smaller shards."""
        return str(self.paths.images)

    def process(self, partition: Partition) -> int:
        """Reclaim one partition's bytes."""
        reclaimed = compact_batch(partition.batch, self.paths, allowed=self.job.allowed)
        self.consolidate(partition.batch)  # which tidies up after a kill, too
        log.info("reclaimed %s of %s", size(reclaimed), partition.batch.folder)
        return len(partition.picked)

    def seen(self, look: BatchFiles, picked: pl.DataFrame) -> pl.LazyFrame:  # noqa: ARG002
        """Removed images that have bytes: none, when it is done."""
        return look.removed().filter(HAS_BYTES).select(SEEN)
