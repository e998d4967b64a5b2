"""A runner that takes images out of the dataset: their rows go to removed.parquet.

Their bytes stay, so that `snakemake restore` can put them back, until the tool `compact` reclaims
them.
"""

from typing import ClassVar

import polars as pl

from distributed_downloader.paths import Batch
from distributed_downloader.storage.parts import list_parts
from distributed_downloader.storage.removal import remove_images
from distributed_downloader.tools.partition import Partition
from distributed_downloader.tools.runners import MPIRunnerTool


class RemovalRunner(MPIRunnerTool):
    """Removes the picked images; override `process` to look at them first."""

    reason: ClassVar[str] = ""  # for the summary: a word or two, the same for all
    refetch: ClassVar[bool] = False  # whether they are to be fetched again

    @property
    def results_place(self) -> str:
        """The list of what goes."""
        return str(self.filter_table)

    def process(self, partition: Partition) -> int:
        """Remove what was picked."""
        uuids = partition.rows["uuid"]
        self.remove(partition.batch, pl.DataFrame({"uuid": uuids, "reason": self._reasons(uuids)}))
        return len(uuids)

    def _reasons(self, uuids: pl.Series) -> pl.Series:
        return pl.Series([self.reason or self.filter_name], dtype=pl.String).new_from_index(
            0, len(uuids)
        )

    def remove(self, batch: Batch, which: pl.DataFrame) -> None:
        """Take these images (uuid, reason) out of the dataset."""
        paths, allowed = self.paths, self.job.allowed
        if list_parts(paths.batch_images(batch)):
            self.consolidate(batch)  # an image in a part has no bytes that stay
        marks = which.with_columns(
            tool=pl.lit(self.filter_name), refetch=pl.lit(self.refetch, pl.Boolean)
        )
        self.removed += remove_images(batch, paths, marks, allowed=allowed)
        self.consolidate(batch)
