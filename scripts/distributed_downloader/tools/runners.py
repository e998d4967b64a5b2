"""The third step: do something with the picked images, partition after partition, over MPI.

Take MPIRunnerTool when the work is on whole partitions, ImageRunner when it is a function of one
image, RemovalRunner when the picked images are to go. The predecessor's `apply_filter` works too.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import polars as pl

from distributed_downloader.durable import crash_point, read_json, write_json, write_parquet
from distributed_downloader.lists.generations import rows_by_batch
from distributed_downloader.paths import Batch
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.tools.base import ToolConfig, ToolsBase
from distributed_downloader.tools.filters import read_partitions, read_picked
from distributed_downloader.tools.job import Job, JobResult, run_job
from distributed_downloader.tools.marks import FINISHED_NAME, Marks, hash_of
from distributed_downloader.tools.partition import Partition, StoredImage, chosen
from distributed_downloader.tools.registry import RunnerRegister
from distributed_downloader.tools.schedule import read_schedule
from distributed_downloader.tools.threads import mapped

__all__ = ["ImageRunner", "MPIRunnerTool", "RunnerRegister"]

SEEN = ("uuid", "hashsum_resized", "fetched_at")
_NO_ROWS = pl.DataFrame(schema={"uuid": pl.String})


class MPIRunnerTool(ToolsBase):
    """Maps `process` over the scheduled partitions; `finish` makes one thing of all of them."""

    depends_on: ClassVar[tuple[str, ...]] = ()  # tools_parameters that, changed, make all undone
    finish_depends_on: ClassVar[tuple[str, ...]] = ()  # those that, changed, make the end undone

    def __init__(self, cfg: ToolConfig) -> None:
        super().__init__(cfg)
        self.job = Job()  # one rank, alone; a script puts its own here
        self.result: JobResult | None = None
        self.removed = 0  # images that this rank took out of the dataset
        self._tick: Callable[[int], None] = lambda _images: None  # of the partition at work

    @property
    def results_place(self) -> str:
        """Where what it makes lies: people are told of it."""
        return str(self.folder)

    def process(self, partition: Partition) -> int:
        """Do one partition, and return how many images that were. It may be done again.

        What it writes must be whole or not there (see `durable`): a kill comes at any instant.
        """
        self._tick = partition.tick
        batch = partition.batch
        place: tuple[Any, ...] = (quote(batch.server_name, safe=""), batch.partition_id)
        if len(signature(self.apply_filter).parameters) == 2:
            place = (str(partition.successes),)
        return int(self.apply_filter(partition.picked.to_pandas(), *place) or 0)

    def apply_filter(self, filtering_df: Any, *place: Any) -> int | None:
        """The predecessor's: the picked rows (pandas), then where its images are.

        That is the server (as its folder is called) and the number of the partition; or, for a
        method that takes one argument less, the path of successes.parquet.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no method process (or apply_filter, as the predecessor's)"
        )

    def is_enough_time(self) -> None:
        """The predecessor's, for `apply_filter`: end here if the job must."""
        self._tick(0)

    @property
    def mpi_rank(self) -> int:
        """The number of this rank."""
        return self.job.world.rank

    def finish(self, batches: list[Batch]) -> None:
        """Rank 0, when every picked partition is done: make one thing of all of them."""

    def close(self) -> None:
        """Every rank, at the end, whatever it is: let go of what was kept for all partitions."""

    def seen(self, look: BatchFiles, picked: pl.DataFrame) -> pl.LazyFrame:
        """The rows (SEEN) that, changed, make a partition undone: those of the picked images."""
        return chosen(look.images().select(SEEN), picked)

    def consolidate(self, batch: Batch) -> None:
        """Take in the partition's parts, and have `completed` say whether its rows are final."""
        rows, waves = self._rows_listed.get(batch, 0), self.settings.retries_waves
        allowed = self.job.allowed
        consolidate(batch, self.paths, rows, retries_waves=waves, allowed=allowed)

    @cached_property
    def _rows_listed(self) -> Mapping[Batch, int]:
        return rows_by_batch(self.paths)  # the same for as long as a job runs

    def run(self) -> None:
        """Do what is scheduled and not done, together with all ranks."""
        world = self.job.world
        asyncio.run(world.barrier())
        plan, rows = world.share(self._plan() if world.rank == 0 else None)
        try:
            self.result = asyncio.run(run_job(self, plan, rows))
        finally:
            self.close()

    def _plan(self) -> tuple[dict[Batch, int], int]:
        ranks = read_schedule(self.schedule_table)
        picked = read_partitions(self.filter_table)
        left = self.not_done({batch: picked.get(batch, 0) for batch in ranks})
        return {batch: ranks[batch] for batch in left}, sum(picked.get(batch, 0) for batch in left)

    @cached_property
    def marks(self) -> Marks:
        """The partitions that are done."""
        return Marks(self.verification)

    def partition(
        self, batch: Batch, tick: Callable[[int], None] = lambda _images: None
    ) -> Partition:
        """What was picked of a partition."""
        picked = read_picked(self.filter_table, batch)
        return Partition(batch, self.paths.batch_images(batch), picked, tick)

    def not_done(self, batches: Iterable[Batch]) -> list[Batch]:
        """Those that have no mark, or whose images are others than the mark's."""
        marks = self.marks.read()
        return [b for b in batches if b not in marks or marks[b].table != self._hash_now(b)]

    def _hash_now(self, batch: Batch) -> str:
        return self.table_hash(batch, read_picked(self.filter_table, batch))

    def table_hash(self, batch: Batch, picked: pl.DataFrame) -> str:
        """What a mark of this partition would hold now."""
        look = BatchFiles.of(self.paths.batch_images(batch))
        common = {name: self.parameters[name] for name in self.depends_on}
        return hash_of(self.seen(look, picked), {**common, **self.own_parameters})

    @property
    def is_finished(self) -> bool:
        """Whether `finish` has seen what is picked and done now, or there is nothing to finish."""
        if type(self).finish is MPIRunnerTool.finish:
            return True
        return bool(read_json(self.folder / FINISHED_NAME) == self._digest(self._picked()))

    def finish_once(self) -> None:
        """Call `finish`, unless it has seen all this already."""
        batches = self._picked()
        if self.is_finished:
            return
        self.finish(batches)
        crash_point("tool:before_finished")
        write_json(self.folder / FINISHED_NAME, self._digest(batches))

    def _picked(self) -> list[Batch]:
        return sorted(read_partitions(self.filter_table))

    def _digest(self, batches: list[Batch]) -> dict[str, Any]:
        marks = self.marks.read()
        lines = [f"{batch.folder} {marks[batch].table}" for batch in batches if batch in marks]
        return {
            "parameters": {name: self.parameters[name] for name in self.finish_depends_on},
            "partitions": len(lines),
            "table": hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest(),
        }


class ImageRunner(MPIRunnerTool):
    """Maps `process_image` over the picked images, on `cpu_per_worker` threads.

    What it returns becomes a row of `tools/<tool>/table/<partition>/rows.parquet`, after the
    image's uuid.
    """

    @property
    def results_place(self) -> str:
        """The tables."""
        return str(self.folder / "table")

    def process_image(self, image: StoredImage) -> Mapping[str, Any] | None:
        """A row's further columns; None: no row."""
        raise NotImplementedError(f"{type(self).__name__} has no method process_image")

    def process(self, partition: Partition) -> int:
        """One partition's table."""
        found = [(uuid, values) for uuid, values in self._mapped(partition) if values is not None]
        rows = [{"uuid": uuid, **values} for uuid, values in found]
        table = pl.DataFrame(rows, infer_schema_length=None) if rows else _NO_ROWS
        write_parquet(self.table_file(partition.batch), table)
        return len(partition.rows)

    def table_file(self, batch: Batch) -> Path:
        """Where the rows of a partition lie."""
        return self.folder / "table" / batch.folder / "rows.parquet"

    def _mapped(self, partition: Partition) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
        def one(image: StoredImage) -> tuple[str, Mapping[str, Any] | None]:
            return image.uuid, self.process_image(image)

        return mapped(one, partition.images(), self.parameters["cpu_per_worker"])
