"""How many bytes all bodies of a rank may weigh together, whatever servers send.

1. A body has its place before more than FREE_BYTES of it are read, and keeps it until it is
   encoded; while it waits its connection rests, and that time is not the server's.
2. A body whose length is announced asks for all of it at once. One that says nothing asks for
   FIRST_BYTES, and for as much again whenever that is full.
3. Who holds a part and finds no room for more waits for the overdraft, which one body at a time may
   use: it can always be read to its end, so nobody waits for ever.

All bodies together weigh at most the room, one body of `images.max_bytes`, and FREE_BYTES for each
connection.
"""

import asyncio
from collections import deque

FREE_BYTES = 65_536
FIRST_BYTES = 1 << 20


class Room:
    """So many bytes, handed out in the order of asking."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.overdraft = asyncio.Lock()

    @property
    def taken(self) -> int:
        """Bytes that are handed out, the overdraft's too."""
        return self._taken

    def has(self, nbytes: int) -> bool:
        """Whether so many would fit now; the first always do."""
        return not self._taken or self._taken + nbytes <= self._max_bytes

    def draw(self, nbytes: int) -> None:
        """Take bytes, there or not."""
        self._taken += nbytes

    async def take(self, nbytes: int) -> None:
        """Wait for so many bytes."""
        if not self._waiting and self.has(nbytes):
            self.draw(nbytes)
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append((nbytes, mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.give(nbytes)
            raise

    def give(self, nbytes: int) -> None:
        """Hand bytes back, to those who wait."""
        self._taken -= nbytes
        while self._waiting and (self._waiting[0][1].done() or self.has(self._waiting[0][0])):
            wanted, next_one = self._waiting.popleft()
            if not next_one.done():
                self.draw(wanted)
                next_one.set_result(None)


class Place:
    """What one body holds of a room, from its reading to its encoding."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._has_overdraft = False
        self.held = 0

    async def reserve(self, nbytes: int) -> None:
        """Hold so many bytes at least."""
        more = nbytes - self.held
        if more <= 0:
            return
        if not self.held:
            await self._room.take(more)
        elif self._has_overdraft or self._room.has(more):
            self._room.draw(more)
        else:
            await self._room.overdraft.acquire()
            self._has_overdraft = True
            self._room.draw(more)
        self.held = nbytes

    async def settle(self, nbytes: int) -> None:
        """The body is there, and weighs so much: hold just that."""
        await self.reserve(nbytes)
        self._keep(nbytes)

    def leave(self) -> None:
        """Give everything back; a second call does nothing."""
        self._keep(0)

    def _keep(self, nbytes: int) -> None:
        surplus = max(0, self.held - nbytes)
        self.held -= surplus
        self._room.give(surplus)
        if self._has_overdraft:
            self._room.overdraft.release()
            self._has_overdraft = False
