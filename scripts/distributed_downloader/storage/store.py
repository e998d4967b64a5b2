"""What a rank has fetched and not yet committed: a buffer a batch, committed on age or on size.

A commit is a part (see `parts`): after it, nothing of it can be lost. What a kill costs is what
stands here: the last `flush.seconds` at most.
"""

import asyncio
from collections.abc import Callable, Iterable

from distributed_downloader.paths import Batch
from distributed_downloader.records import Encoded, Failed, Fetched, Try, Unchanged
from distributed_downloader.settings import Settings
from distributed_downloader.storage.parts import PartNames, PartWriter

TICK_S = 0.5
COMMITS_AT_ONCE = 4  # a commit mostly waits for the disk


class Store:
    """The buffers of one rank. `allowed` raises LockError if the run must not write any more.

    A commit that fails raises, after all others at work have ended; it is tried once more by the
    next `flush`.
    """

    def __init__(self, settings: Settings, names: PartNames, allowed: Callable[[], None]) -> None:
        self._settings = settings
        self._names = names
        self._allowed = allowed
        self._writers: dict[Batch, PartWriter] = {}
        self._failed: list[PartWriter] = []
        self._held = 0  # bytes in buffers and on their way to the disk
        self._is_closed = False
        self._places = asyncio.Semaphore(COMMITS_AT_ONCE)
        self._heavy = asyncio.Event()
        self._light = asyncio.Event()
        self._light.set()

    def add_image(self, attempt: Try, fetched: Fetched, encoded: Encoded) -> None:
        """Take a row that has its image."""
        writer = self._writer(attempt.row.batch)
        before = writer.bytes
        writer.add_image(attempt.row, fetched, encoded)
        self._weigh(writer.bytes - before)

    def add_unchanged(self, attempt: Try, unchanged: Unchanged) -> None:
        """Take a row whose stored image is what its server has."""
        writer = self._writer(attempt.row.batch)
        before = writer.bytes
        writer.add_unchanged(attempt.row, unchanged)
        self._weigh(writer.bytes - before)

    def add_error(self, attempt: Try, failed: Failed) -> None:
        """Take a row that has none."""
        writer = self._writer(attempt.row.batch)
        before = writer.bytes
        writer.add_error(attempt.row, failed, attempt.requests)
        self._weigh(writer.bytes - before)

    async def has_room(self) -> None:
        """Wait while the disk is slower than the network."""
        await self._light.wait()

    async def keep_flushing(self) -> None:
        """Commit what is old enough, or everything once it weighs too much; until closed."""
        while not self._is_closed:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._heavy.wait()
                await self.flush()
            except TimeoutError:
                await self._commit([w for w in self._writers.values() if self._is_old(w)])

    def close(self) -> None:
        """End `keep_flushing` after the commits under way; `flush` goes on working."""
        self._is_closed = True

    async def flush(self) -> None:
        """Commit everything. Raises StorageError, LockError: what was not committed is lost."""
        again, self._failed = self._failed, []
        await self._commit(list(self._writers.values()), again)

    def _is_old(self, writer: PartWriter) -> bool:
        """A calendar that was set back makes an age negative: old enough, too."""
        return not 0 <= writer.age_s < self._settings.flush.seconds

    def _writer(self, batch: Batch) -> PartWriter:
        if batch not in self._writers:
            keep = self._settings.images.keep_original
            self._writers[batch] = PartWriter(batch, self._names, keep_original=keep)
        return self._writers[batch]

    def _weigh(self, change: int) -> None:
        self._held += change
        limit = self._settings.flush.max_bytes
        (self._heavy.set if self._held >= limit else self._heavy.clear)()
        (self._light.clear if self._held >= 2 * limit else self._light.set)()

    async def _commit(
        self, writers: Iterable[PartWriter], again: Iterable[PartWriter] = ()
    ) -> None:
        leaving = [*again, *(self._writers.pop(writer.batch) for writer in writers)]
        done = await asyncio.gather(
            *(self._commit_one(writer) for writer in leaving), return_exceptions=True
        )
        for error in done:
            if error is not None:
                raise error

    async def _commit_one(self, writer: PartWriter) -> None:
        size = writer.bytes
        try:
            async with self._places:
                folder = self._settings.paths.batch_images(writer.batch)
                await asyncio.to_thread(writer.commit, folder, self._allowed)
        except Exception:
            self._failed.append(writer)
            raise
        self._weigh(-size)
