"""One MPI job of a tool: all ranks work, then rank 0 says how it went.

1. What is left is what the schedule names and no mark covers: a job that was killed goes on.
2. A partition that fails is reported with its reason, and the others go on; then the job fails.
3. A full disk, or a run that was taken over, stops all ranks.
4. Out of time, or asked to end: partitions under way are left as they are, and the job ends well.
5. When nothing is left, rank 0 finishes what the tool makes of all partitions together.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from distributed_downloader.durable import crash_point
from distributed_downloader.errors import DownloaderError, LockError, StorageError, ToolError
from distributed_downloader.mpi import Solo, World
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.tools.account import Account, complain, reason
from distributed_downloader.tools.marks import Marks
from distributed_downloader.tools.partition import Interrupted, Partition
from distributed_downloader.tools.sharing import Sharing
from distributed_downloader.waves.deadline import Deadline
from distributed_downloader.waves.progress import Progress, write_progress

log = logging.getLogger(__name__)

WATCH_S = 1.0


def _anybody() -> None:
    """Any run may write: nobody else is here."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a runner's ranks share, and must not outlive."""

    world: World = field(default_factory=Solo)
    allowed: Callable[[], None] = _anybody  # raises LockError
    stop_requested: Callable[[], bool] = lambda: False
    deadline: Deadline = field(default_factory=Deadline)

    def over(self) -> str | None:
        """Why the job must end now, if it must; rank 0 asks."""
        if self.stop_requested():
            return "a later run asked for it"
        return "out of time" if self.deadline.is_over else None


class Runner(Protocol):
    """What a job asks of a tool's runner."""

    job: Job
    filter_name: str
    removed: int  # images that this rank took out of the dataset

    @property
    def marks(self) -> Marks:
        """What is done."""

    @property
    def results_place(self) -> str:
        """Where what it makes lies."""

    @property
    def paths(self) -> OutputPaths:
        """Where everything lies."""

    def partition(self, batch: Batch, tick: Callable[[int], None]) -> Partition:
        """What was picked of a partition."""

    def process(self, partition: Partition) -> int:
        """Do it; the number of images that were done."""

    def table_hash(self, batch: Batch, picked: pl.DataFrame) -> str:
        """What was seen of it."""

    def finish_once(self) -> None:
        """Make what is made of all partitions together, unless it is made."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """What is written down of a job."""

    tool: str
    partitions: int  # done
    images: int  # in them
    removed: int  # taken out of the dataset
    left: int  # partitions
    stopped: str | None
    seconds: float
    results_place: str


class RankOfJob:
    """One rank of a tool's job."""

    def __init__(self, runner: Runner, plan: Mapping[Batch, int]) -> None:
        self._runner = runner
        self._batches = list(plan)
        self._ticked = 0  # images, those of the partition under way included
        self.account = Account()
        ranks = [rank % runner.job.world.size for rank in plan.values()]
        self.sharing = Sharing(runner.job.world, ranks, self._work, lambda: self._ticked)

    @property
    def planned(self) -> int:
        """Partitions of the job."""
        return len(self._batches)

    async def run(self) -> None:
        """Work until all ranks are done."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.sharing.halt, f"{number.name} was received")
        await self.sharing.run()
        self.account.removed = self._runner.removed

    def _work(self, item: int) -> str | None:
        """In a thread: one partition. What stops everybody, if something does."""
        batch, began, before = self._batches[item], time.monotonic(), self._ticked
        try:
            images = self._do(batch)
        except Interrupted:
            log.info("left for the next job: %s", batch.folder)
        except (LockError, StorageError) as error:
            log.error("%s", error, extra={"told": True})  # to people: by rank 0
            self.account.fatal = str(error)
        except Exception as error:  # whatever a tool's code, or a broken shard, comes to
            log.error("%s failed", batch.folder, exc_info=True, extra={"told": True})
            self.account.failures.append(f"{batch.folder}: {reason(error)}")
        else:
            self.account.partitions += 1
            self.account.images += images
            self._ticked = max(self._ticked, before + images)
            seconds = time.monotonic() - began
            log.info("partition done: %s, %d images, %.1f s", batch.folder, images, seconds)
        return self.account.fatal

    def _do(self, batch: Batch) -> int:
        runner = self._runner
        log.info("partition started: %s", batch.folder)
        partition = runner.partition(batch, self._tick)
        images = runner.process(partition)
        runner.job.allowed()
        table = runner.table_hash(batch, partition.picked)
        runner.marks.append(runner.job.world.rank, batch, table, images)
        return images

    def _tick(self, images: int) -> None:
        self._ticked += images
        if self.sharing.stop.is_set():
            raise Interrupted


async def run_job(runner: Runner, plan: Mapping[Batch, int], rows: int) -> JobResult | None:
    """Take part in a job over `plan`: what is left, with the rank that each is meant for.

    `rows` are picked in all of it. The result at rank 0, None elsewhere. Rank 0 raises ToolError,
    once all ranks are done, if a partition failed.
    """
    world, began = runner.job.world, time.time()
    rank = RankOfJob(runner, plan)
    await world.barrier()
    watching = asyncio.create_task(_watch(runner, rank, rows, began))
    await rank.run()
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    await world.barrier()
    accounts = world.gather(rank.account)
    result = await _end(runner, rank, accounts, began) if world.rank == 0 else None
    await world.barrier()
    return result


async def _end(runner: Runner, rank: RankOfJob, accounts: list[Account], began: float) -> JobResult:
    whole = Account()
    for one in accounts:
        whole.add(one)
    left, stopped = rank.planned - whole.partitions, rank.sharing.stopped
    complain(runner.filter_name, whole, rank.planned, stopped, runner.paths.logs)
    removed_here = runner.removed
    if left == 0:
        crash_point("tool:before_finish")
        await asyncio.to_thread(_finish, runner)
    return JobResult(
        tool=runner.filter_name,
        partitions=whole.partitions,
        images=whole.images,
        removed=whole.removed + runner.removed - removed_here,
        left=left,
        stopped=stopped,
        seconds=time.time() - began,
        results_place=runner.results_place,
    )


def _finish(runner: Runner) -> None:
    try:
        runner.finish_once()
    except DownloaderError:
        raise
    except Exception as error:
        log.error("the tool's end failed", exc_info=True, extra={"told": True})
        raise ToolError(f"{runner.filter_name} could not finish: {reason(error)}") from error


async def _watch(runner: Runner, rank: RankOfJob, rows: int, began: float) -> None:
    """Rank 0: end the job when it must, and say how far it is."""
    job = runner.job
    while job.world.rank == 0:
        with suppress(LockError):  # a hiccup of the disk; the next look may tell
            if reason := job.over():
                rank.sharing.halt(reason)
        progress = _progress(runner, rank, rows, began)
        await asyncio.to_thread(write_progress, runner.paths.checkpoint, progress)
        await asyncio.sleep(WATCH_S)


def _progress(runner: Runner, rank: RankOfJob, rows: int, began: float) -> Progress:
    now = time.time()
    done, passed_s = sum(rank.sharing.images.values()), max(now - began, 0.001)
    return Progress(
        stage=runner.filter_name,
        wave=None,
        done=min(done, rows),
        total=rows,
        images=done,
        errors=len(rank.account.failures),
        images_per_second=done / passed_s,
        bytes=0,
        predicted_left_s=max(0, rows - done) * passed_s / done if done else None,
        ranks=runner.job.world.size,
        started=began,
        updated=now,
    )
