"""One wave over all its ranks: begin together, work apart, end together.

1. Rank 0 looks whether there is a way out (`outset`). All ranks pass a barrier: no request is sent
   before everybody is there.
2. Each rank works through its groups, and tells rank 0 how far it is; rank 0 keeps
   `checkpoint.json` and beats for all. What stops one rank stops all.
3. After a barrier the ranks share out the batches, consolidate them, and count what is left.
4. Rank 0 writes what the wave learned, then `left.json`, then `progress.json`.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from distributed_downloader.durable import crash_point, write_json, write_parquet
from distributed_downloader.errors import DownloaderError, LockError
from distributed_downloader.lists.generations import rows_by_batch
from distributed_downloader.mpi import World
from distributed_downloader.settings import Settings
from distributed_downloader.storage.lock import Lock
from distributed_downloader.tables import LEARNED
from distributed_downloader.waves.deadline import Deadline
from distributed_downloader.waves.due import PROGRESS, STARTED
from distributed_downloader.waves.duty import Result, Worker
from distributed_downloader.waves.left import LEARNED_NAME, LeftRows, rules_of_today, write_left
from distributed_downloader.waves.memories import blocks_of, sum_up
from distributed_downloader.waves.news import (
    ONLY_RESTING,
    News,
    Stop,
    are_resting,
    progress_of,
)
from distributed_downloader.waves.nodes import Watch, node_hours, peak_mb
from distributed_downloader.waves.orders import duty_of, servers_of
from distributed_downloader.waves.outset import check_way_out
from distributed_downloader.waves.progress import write_progress
from distributed_downloader.waves.settling import left_of, settle_batches, summed
from distributed_downloader.wire.transport import client_of

log = logging.getLogger(__name__)

EXCHANGE_S = 1.0
FAULT = Stop("a fault of this program")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a wave must not outlive: a later run's request, and its job's time."""

    lock: Lock
    deadline: Deadline

    def reached(self) -> Stop | None:
        """Why the wave must end now, if it must; rank 0 asks, and tells the others."""
        if self.lock.stop_requested():
            return Stop("a later run asked for it")
        return Stop("out of time", is_in_time=True) if self.deadline.is_over else None


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank did, and what it counted of its share of the batches."""

    result: Result
    left: Mapping[str, LeftRows]
    stopped: str | None
    failure: str | None
    peak_mb: int = 0  # megabytes of memory that the rank held at most


async def run_wave(settings: Settings, wave: int, world: World, bounds: Bounds) -> None:
    """Take part in a wave. Once all that can be is stored, rank 0 raises what ended it early."""
    started = time.time()
    if world.rank == 0:
        await check_way_out(settings, servers_of(settings, wave))
        write_json(settings.paths.wave(wave) / STARTED, {"started": started})
        crash_point("wave:after_started")
    async with client_of(settings) as client:
        worker = Worker(settings, duty_of(settings, wave, world, bounds.lock.check), client)
        await worker.prepare()
        await world.barrier()  # all that takes time is done: they begin together
        result, stopped = await work(settings, worker, world, bounds, wave)
    await world.barrier()
    share = await asyncio.to_thread(_settle, settings, world, bounds.lock, result, stopped)
    await world.barrier()
    shares = world.gather(share)
    failure = next((one.failure for one in [share, *shares] if one.failure), None)
    if world.rank == 0 and failure is None:  # else what was counted may not be all
        failure = unchanged(_end(settings, wave, shares, started), settings)
    await world.barrier()
    if failure and world.rank == 0:  # one sentence; its exit code ends the others, too
        raise DownloaderError(failure)


async def work(
    settings: Settings, worker: Worker, world: World, bounds: Bounds, wave: int | None
) -> tuple[Result, str | None]:
    """Do a rank's duty, with news among the ranks; also why it was stopped, if it was.

    `wave` is None for profile.
    """
    news = News(world, worker.tally, worker.stop)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, news.stop_all, Stop(f"{number.name} was received"))
    exchanging = asyncio.create_task(_exchange(settings, wave, news, bounds, world, worker))
    exchanging.add_done_callback(partial(_stop_unwatched, news))
    result = await worker.run()
    if result.failure:
        news.stop_all(Stop(result.failure))
    await _end_together(world, news, exchanging)
    return result, None if news.stopped == ONLY_RESTING else news.stopped


def _stop_unwatched(news: News, exchanging: asyncio.Task[None]) -> None:
    if not exchanging.cancelled():
        news.stop_all(FAULT)


async def _end_together(world: World, news: News, exchanging: asyncio.Task[None]) -> None:
    """Go on exchanging news until every rank has ended its work: rank 0 passes things on.

    Raises what went wrong with that: nobody would have noticed the end of the job's time.
    """
    await world.barrier()
    exchanging.cancel()
    (ended,) = await asyncio.gather(exchanging, return_exceptions=True)
    await news.end()
    if isinstance(ended, Exception):
        raise ended


async def _exchange(
    settings: Settings,
    wave: int | None,
    news: News,
    bounds: Bounds,
    world: World,
    worker: Worker,
) -> None:
    started, watch = time.time(), Watch(settings.idle_nodes_s)
    may_be_smaller = wave is not None and world.size > 1 and not settings.num_downloads
    while True:
        news.exchange()
        if world.rank == 0:
            with suppress(LockError):  # a hiccup of the disk; the next look may tell
                if stop := bounds.reached():
                    news.stop_all(stop)
            if are_resting(news.tallies.values(), world.size, worker.patience_s):
                news.stop_all(Stop(ONLY_RESTING, is_in_time=True))
            if may_be_smaller and watch.should_end(news.tallies, world.size):
                news.stop_all(Stop("a smaller wave can go on with the rest", is_in_time=True))
            if news.tallies:
                progress = progress_of(wave, news.tallies.values(), world.size, started)
                await asyncio.to_thread(write_progress, settings.paths.checkpoint, progress)
        await asyncio.sleep(EXCHANGE_S)


def _settle(
    settings: Settings, world: World, lock: Lock, result: Result, stopped: str | None
) -> Share:
    """Consolidate and count this rank's share of all batches."""
    rows = rows_by_batch(settings.paths)
    share = dict(list(rows.items())[world.rank :: world.size])
    try:
        settle_batches(settings, share, lock.check)
        left = left_of(settings, share)
        return Share(result, left, stopped, result.failure, peak_mb())
    except DownloaderError as error:
        log.error("%s", error, extra={"told": True})  # to people: by rank 0
        return Share(result, {}, stopped, result.failure or str(error))


def unchanged(progress: Mapping[str, Any], settings: Settings) -> str | None:
    """The sentence for a wave that changed nothing, though nothing kept it from it."""
    excused = any(progress.get(why) for why in ("changed", "blocks", "stopped", "blocked"))
    if excused or not progress["left"] or settings.suppress_unchanged_error:
        return None
    return (
        f"Wave {progress['wave']} changed nothing: {progress['left']} rows are left, and no server "
        f"rests. See the logs in {settings.paths.logs}, or set suppress_unchanged_error: true."
    )


def _end(
    settings: Settings, wave: int, shares: Sequence[Share], started: float
) -> Mapping[str, Any]:
    """What rank 0 writes; a kill may come between any two: `progress.json` is the last."""
    folder = settings.paths.wave(wave)
    learned = [row for share in shares for row in share.result.learned]
    crash_point("wave:before_learned")
    write_parquet(folder / LEARNED_NAME, pl.DataFrame(learned, LEARNED))
    crash_point("wave:after_learned")
    blocks = blocks_of(sum_up(settings, wave))
    left = write_left(
        settings.paths,
        summed(share.left for share in shares),
        blocks,
        rules=rules_of_today(settings),
    )
    crash_point("wave:after_left")
    ended = time.time()
    worked = ((share.result.node, share.result.worked_s) for share in shares)
    hours = node_hours(worked, ended - started)
    progress = {
        "wave": wave,
        "ranks": len(shares),
        "nodes": hours.nodes,
        "node_hours": hours.used,
        "idle_node_hours": hours.idle,
        "peak_rank_mb": max(share.peak_mb for share in shares),
        "changed": sum(share.result.changed for share in shares),
        "blocks": sum(row["blocks"] for row in learned),
        "left": left["left"],
        "blocked": len(left["groups"]),
        "stopped": next((share.stopped for share in shares if share.stopped), None),
        "started": started,
        "ended": ended,
    }
    write_json(folder / PROGRESS, progress)
    crash_point("wave:after_progress")
    return progress
