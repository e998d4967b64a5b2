"""Whether we are cut off: nobody answers any more, also those who did.

1. A request that nobody answered (no name, no connection, no answer in time) tells something about
   its server only if the network is there. It is, if any server has answered since it was begun.
2. Else witnesses are tried: a few servers of different groups that answered before. A connection
   is made and closed, nothing is asked. If one stands, the network is there.
3. If none does, we are cut off: all groups rest, for `first_s` and `factor` times longer each time
   that nobody is there, also from wave to wave. What failed meanwhile counts for nothing.
4. Where nobody has ever answered, nothing can be told: the failure counts. So it does if the only
   witness has been silent for a day: it may be dead.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from distributed_downloader.courtesy.budgets import Backoff
from distributed_downloader.courtesy.memory import Memory

log = logging.getLogger(__name__)

WITNESSES = 5  # at once
LOOK_S = 1.0  # between two looks
BELIEVED_S = 86_400.0  # a lone witness

Clock = Callable[[], float]
Connects = Callable[[str], Awaitable[bool]]  # whether a server can be connected to


@dataclass(frozen=True, slots=True)
class Witness:
    """A server that has answered, the last of its group."""

    server: str
    answered: float  # unix seconds


class Outage:
    """What one rank knows of the network."""

    def __init__(
        self,
        connects: Connects,
        backoff: Backoff,
        memories: Mapping[str, Memory],
        *,
        now: Clock = time.monotonic,
        wall: Clock = time.time,
    ) -> None:
        self._connects = connects
        self._backoff = backoff
        self._now, self._wall = now, wall
        self._witnesses = {
            group: Witness(memory.witness, memory.answered)
            for group, memory in memories.items()
            if memory.witness
        }
        self.rest_s = silence_of(memories.values())
        self.until = self._alive_at = self._cut_at = self._looked_at = -float("inf")
        self._looking = asyncio.Lock()

    def heard(self, group: str, server: str) -> None:
        """A server has answered, whatever it said."""
        self._alive_at = self._now()
        self._witnesses[group] = Witness(server, self._wall())
        self.rest_s = 0.0

    async def is_cut_off(self, began: float) -> bool:
        """Whether a request that was begun then, and that nobody answered, counts for nothing."""
        async with self._looking:
            if began < self._cut_at:
                return True
            if self._alive_at >= began:
                return False
            await asyncio.sleep(max(0.0, self._looked_at + LOOK_S - self._now()))
            return self._alive_at < began and not await self._is_anybody_there()

    async def _is_anybody_there(self) -> bool:
        self._looked_at = self._now()
        chosen = self._chosen()
        stand = await asyncio.gather(*(self._connects(server) for server in chosen))
        if any(stand) or not chosen:
            self._alive_at = self._now()
            return True
        self._rest(chosen)
        return False

    def _chosen(self) -> list[str]:
        known = list(self._witnesses.values())
        if len(known) == 1 and self._wall() - known[0].answered > BELIEVED_S:
            return []
        return [witness.server for witness in random.sample(known, min(len(known), WITNESSES))]

    def _rest(self, chosen: Iterable[str]) -> None:
        longer_s = self.rest_s * self._backoff.factor if self.rest_s else self._backoff.first_s
        self.rest_s = min(longer_s, self._backoff.max_s)
        self._cut_at = self._now()
        self.until = self._cut_at + self.rest_s
        servers = ", ".join(sorted(chosen))
        log.warning("nobody is there any more, not even %s: waiting %g s", servers, self.rest_s)


def silence_of(memories: Iterable[Memory]) -> float:
    """How long the last rest was (seconds), if nobody has answered since."""
    newest = max(memories, key=lambda memory: memory.written, default=None)
    return 0.0 if newest is None else newest.silent_s
