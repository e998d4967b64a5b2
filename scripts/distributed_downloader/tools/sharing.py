"""Who does which partition: ranks begin with their own, and then take over from others.

Rank 0 knows what waits. A rank that is free asks it; nothing here waits in MPI. What stops one
rank stops all: it tells rank 0, and rank 0 the others.
"""

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from distributed_downloader.mpi import World

LOOK_S = 0.01  # between two looks for messages
TELL_S = 1.0  # between two words on how far this rank is


@dataclass(frozen=True, slots=True)
class Ask:
    """A free rank wants something to do."""

    rank: int


@dataclass(frozen=True, slots=True)
class Give:
    """Do this; None: nothing is left."""

    item: int | None


@dataclass(frozen=True, slots=True)
class HowFar:
    """Images that a rank has done."""

    rank: int
    images: int


@dataclass(frozen=True, slots=True)
class Halt:
    """End, for this reason."""

    reason: str


Message = Ask | Give | HowFar | Halt


class Desk:
    """What waits, by the rank that it was meant for."""

    def __init__(self, meant_for: Sequence[int]) -> None:
        self._queues: dict[int, deque[int]] = defaultdict(deque)
        for item, rank in enumerate(meant_for):
            self._queues[rank].append(item)

    def next_for(self, rank: int) -> int | None:
        """Something for a free rank: its own, or the last of the rank that has most."""
        if self._queues[rank]:
            return self._queues[rank].popleft()
        longest = max(self._queues.values(), key=len)
        return longest.pop() if longest else None

    def close(self) -> None:
        """Nothing is handed out any more."""
        self._queues.clear()


class Sharing:
    """One rank's part in doing all the items."""

    def __init__(
        self,
        world: World,
        meant_for: Sequence[int],
        work: Callable[[int], str | None],
        images_done: Callable[[], int],
    ) -> None:
        """`work` does an item, in a thread; it returns why all ranks must end, if they must."""
        self._world = world
        self._desk = Desk(meant_for)  # rank 0's counts
        self._work = work
        self._images_done = images_done
        self._given: list[int | None] = []
        self._dismissed = 0  # ranks that were told that nothing is left
        self.images: dict[int, int] = {}  # at rank 0: by rank
        self.stop = threading.Event()  # for the thread that works
        self.stopped: str | None = None

    async def run(self) -> None:
        """Work until nothing is left, or all were stopped; ends together with all ranks."""
        attending = asyncio.create_task(self._attend())
        try:
            while (item := await self._next()) is not None:
                if reason := await asyncio.to_thread(self._work, item):
                    self.halt(reason)
            while self._world.rank == 0 and self._dismissed < self._world.size - 1:
                await asyncio.sleep(LOOK_S)
            await self._world.barrier()
        finally:
            attending.cancel()
            with suppress(asyncio.CancelledError):
                await attending
        await self._world.fall_silent()

    def halt(self, reason: str) -> None:
        """Have every rank end, this one at once."""
        if self.stopped is None:
            self._hear(Halt(reason))
            if self._world.rank != 0:
                self._world.tell(0, Halt(reason))

    async def _next(self) -> int | None:
        if self._world.rank == 0:
            return self._desk.next_for(0)
        self._world.tell(0, Ask(self._world.rank))
        while not self._given:
            await asyncio.sleep(LOOK_S)
        return self._given.pop()

    async def _attend(self) -> None:
        clock = asyncio.get_running_loop().time
        told_at = clock() - TELL_S
        while True:
            for message in self._world.heard():
                self._hear(message)
            if clock() - told_at >= TELL_S:
                told_at = clock()
                self._say(HowFar(self._world.rank, self._images_done()))
            await asyncio.sleep(LOOK_S)

    def _say(self, message: HowFar) -> None:
        if self._world.rank == 0:
            self._hear(message)
        else:
            self._world.tell(0, message)

    def _hear(self, message: Message) -> None:
        match message:
            case Ask(rank):
                item = self._desk.next_for(rank)
                self._dismissed += item is None
                self._world.tell(rank, Give(item))
            case Give(item):
                self._given.append(item)
            case HowFar(rank, images):
                self.images[rank] = images
            case Halt(reason) if self.stopped is None:
                self.stopped = reason
                self.stop.set()
                self._desk.close()
                if self._world.rank == 0:
                    for rank in range(1, self._world.size):
                        self._world.tell(rank, message)
