"""The writer lock as the ranks of one job hold it: rank 0 beats for all, every rank checks."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from distributed_downloader.lock import Lock
from distributed_downloader.lock_files import LockFiles
from distributed_downloader.lock_watch import Clock
from distributed_downloader.mpi import World
from distributed_downloader.paths import OutputPaths

WAIT_S = 90.0  # for a writer that is about to end, or that must prove dead


@contextmanager
def writing_together(paths: OutputPaths, world: World, role: str) -> Iterator[Lock]:
    """Hold the writer lock with all ranks; each gets a lock whose `check` works.

    Raises LockError at rank 0 if somebody else writes: the other ranks end with it.
    """
    if world.rank == 0:
        lock = Lock.acquire(paths.writer_lock, role=role, wait_s=WAIT_S)
        try:
            with lock.heartbeat():
                asyncio.run(world.barrier())
                world.share(lock.holder)
                yield lock
        finally:
            lock.release()
    else:
        asyncio.run(world.barrier())
        yield Lock(paths.writer_lock, world.share(None), Clock(), LockFiles())
