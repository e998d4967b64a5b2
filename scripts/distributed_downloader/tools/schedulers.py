"""The second step: which rank begins with which partition.

Only partitions that are not done are scheduled. It is a start: a rank that has nothing left to do
takes over from the rank that has most.
"""

import heapq
from collections.abc import Mapping

import polars as pl

from distributed_downloader.durable import whole_file
from distributed_downloader.paths import Batch
from distributed_downloader.tools.base import ToolsBase
from distributed_downloader.tools.filters import read_partitions
from distributed_downloader.tools.registry import RunnerRegister, SchedulerRegister
from distributed_downloader.tools.runners import MPIRunnerTool

__all__ = ["DefaultScheduler", "SchedulerRegister"]


class DefaultScheduler(ToolsBase):
    """The same number of images for each rank, as nearly as whole partitions allow."""

    def run(self) -> None:
        """Write schedule.csv: server_name, partition_id, rank and rows."""
        left = self.partitions_left()
        ranks = assign(left, self.total_workers)
        rows = [
            (batch.server_name, batch.partition_id, ranks[batch], left[batch])
            for batch in sorted(left)
        ]
        schema = {"server_name": pl.String, "partition_id": pl.Int64, "rank": pl.Int64}
        table = pl.DataFrame(rows, {**schema, "rows": pl.Int64}, orient="row")
        with whole_file(self.schedule_table) as beside:
            table.write_csv(beside)

    def partitions_left(self) -> dict[Batch, int]:
        """Picked images by partition, of those that the tool has to do."""
        runner = RunnerRegister.classes[self.filter_name](self.config)
        picked = read_partitions(self.filter_table)
        if not isinstance(runner, MPIRunnerTool):
            return picked
        return {batch: picked[batch] for batch in runner.not_done(picked)}


def assign(rows: Mapping[Batch, int], ranks: int) -> dict[Batch, int]:
    """A rank for each partition: the largest first, each to the rank that has least."""
    loads = [(0, rank) for rank in range(ranks)]
    found = {}
    for batch in sorted(rows, key=lambda batch: (-rows[batch], batch)):
        load, rank = heapq.heappop(loads)
        found[batch] = rank
        heapq.heappush(loads, (load + rows[batch], rank))
    return found
