"""The rows of one group that wait in a rank: fresh ones in the order of the batches, and retries.

Batches are opened one after the other, in a thread, when the rows before them run low: a rank
that holds hundreds of groups keeps a few slices of rows in memory, never a whole list.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

from distributed_downloader.records import Row, Try

LOW_WATER_ROWS = 32
READ_ROWS = 256


class GroupQueue:
    """Hands out tries; ends when every row has been settled.

    `rows` may block (it reads files): it is stepped in a thread.
    """

    def __init__(self, rows: Iterator[Row], clock: Callable[[], float]) -> None:
        self._rows = rows
        self._clock = clock
        self._fresh: deque[Row] = deque()
        self._is_read = False
        self._reading: asyncio.Task[None] | None = None
        self._later: list[tuple[float, int, Try]] = []  # when, tie-break, try: a heap
        self._order = itertools.count()
        self._in_hand = 0
        self._changed = asyncio.Event()

    @property
    def is_finished(self) -> bool:
        """Every row was handed out and settled."""
        return self._is_read and not (self._fresh or self._later or self._in_hand)

    async def tries(self) -> AsyncIterator[Try]:
        """What to ask next, until all is settled; several workers may iterate at once."""
        while not self.is_finished:
            self._read_ahead()
            attempt = self._take()
            if attempt is None:
                await self._wait()
            else:
                self._in_hand += 1
                yield attempt

    def settle(self) -> None:
        """A row that was handed out needs no more tries."""
        self._in_hand -= 1
        self._changed.set()

    def give_back(self, attempt: Try, delay_s: float) -> None:
        """A row that was handed out is to be tried again after `delay_s`."""
        heapq.heappush(self._later, (self._clock() + delay_s, next(self._order), attempt))
        self.settle()

    async def fill(self) -> None:
        """Read the first rows, before anybody asks for them. Raises what reading them raises."""
        self._read_ahead()
        if self._reading is not None:
            await self._reading

    async def close(self) -> None:
        """Leave the rest: end reading ahead."""
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    def _take(self) -> Try | None:
        if self._later and self._later[0][0] <= self._clock():
            return heapq.heappop(self._later)[2]
        if self._fresh:
            return Try(self._fresh.popleft())
        return None

    async def _wait(self) -> None:
        self._changed.clear()
        delay = self._later[0][0] - self._clock() if self._later else None
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._changed.wait()

    def _read_ahead(self) -> None:
        idle = self._reading is None or self._reading.done()
        if idle and not self._is_read and len(self._fresh) < LOW_WATER_ROWS:
            if self._reading is not None:
                self._reading.result()  # a reader that failed fails its group, loudly
            self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            rows = await asyncio.to_thread(lambda: list(itertools.islice(self._rows, READ_ROWS)))
            self._fresh.extend(rows)
            self._is_read = not rows
        finally:
            self._changed.set()  # also if it failed: who waits must hear of it
