"""The writer lock as the ranks of one job hold it: rank 0 beats for all, every rank checks."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from distributed_downloader.errors import LockError
from distributed_downloader.mpi import World
from distributed_downloader.paths import OutputPaths
from distributed_downloader.storage.lock import RETURN_S, Lock
from distributed_downloader.storage.lock_files import LockFiles
from distributed_downloader.storage.lock_watch import POLL_S, Clock

WAIT_S = 90.0  # for a writer that is about to end, or that must prove dead


@contextmanager
def writing_together(paths: OutputPaths, world: World, role: str) -> Iterator[Lock]:
    """Hold the writer lock with all ranks; each gets a lock whose `check` works.

    Raises LockError at rank 0 if somebody else writes, or if this job's run is not the one that has
    the folder now: the other ranks end with it.
    """
    if world.rank == 0:
        lock = Lock.acquire(paths.writer_lock, role=role, wait_s=WAIT_S)
        try:
            check_run(paths, lock)
            with lock.heartbeat():
                asyncio.run(world.barrier())
                world.share(lock.holder)
                yield lock
        finally:
            lock.release()
    else:
        asyncio.run(world.barrier())
        yield Lock(paths.writer_lock, world.share(None), Clock(), LockFiles())


@contextmanager
def writing_alone(paths: OutputPaths, role: str) -> Iterator[Callable[[], None]]:
    """Hold the writer lock in a process without ranks; yields what to call before each commit.

    Raises LockError as `writing_together`.
    """
    lock = Lock.acquire(paths.writer_lock, role=role, wait_s=WAIT_S)
    try:
        check_run(paths, lock)
        with lock.heartbeat():
            yield lock.check
    finally:
        lock.release()


def check_run(paths: OutputPaths, lock: Lock) -> None:
    """Raise LockError if the run that started this job is over: the job stood in a queue meanwhile.

    A later run may have the folder by now. It takes its run lock before it looks for writers, and
    we look for the run after we have the writer lock: one of us sees the other.
    """
    if not lock.holder.run:
        return  # started by hand
    end = lock.clock.now() + 1.5 * RETURN_S  # a contender may be putting the run lock back
    while (seen := lock.files.read(paths.run_lock)) is None and lock.clock.now() < end:
        lock.clock.sleep(POLL_S)
    if seen is None or seen.holder is None or seen.holder.nonce != lock.holder.run:
        now = f"{seen.holder} has it now" if seen and seen.holder else "nobody has it now"
        raise LockError(
            f"This job was started for {paths.root} by a run that has ended ({now}): it does "
            "nothing. Run the same command again if work is left."
        )
