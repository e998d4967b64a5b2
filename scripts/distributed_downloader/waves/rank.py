"""One rank at work: all its groups at once, one event loop, a few codec processes, one store.

    queue of a group -> gate (may we, and when) -> fetch -> arrivals -> codec -> store -> parts

Here is the asking; what comes of it is for `arrivals`. Nothing here waits for another rank.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence

import httpx

from distributed_downloader.admission.gate import Gate
from distributed_downloader.records import Failed, Row
from distributed_downloader.settings import Settings
from distributed_downloader.storage.store import Store
from distributed_downloader.waves.arrivals import Arrivals, OnOutcome
from distributed_downloader.waves.group_queue import GroupQueue
from distributed_downloader.waves.tries import Effort
from distributed_downloader.wire.fetching import FetchLimits, fetch
from distributed_downloader.wire.room import Place, Room

LOOK_S = 0.5  # how often a rank looks whether it is done
GRACE_S = 3.0  # a stopped rank lets requests that are under way end for so long
BODIES_BYTES = 64 * 2**20  # of bodies that are read, or wait for the codec


class Rank:
    """Works through its queues until all is settled, or it is told to stop.

    While its groups are blocked it waits, and says for how long: others may be at work meanwhile,
    and who knows of all ends the wave (`news.are_resting`).
    """

    def __init__(
        self,
        settings: Settings,
        effort: Effort,
        gate: Gate,
        client: httpx.AsyncClient,
        store: Store,
        on_outcome: OnOutcome,
    ) -> None:
        self._gate = gate
        self._client = client
        self._store = store
        self._limits = FetchLimits.of(settings)
        self._room = Room(BODIES_BYTES)
        self._arrivals = Arrivals(settings, effort, store, on_outcome, self._is_spared)
        self._stopping = asyncio.Event()
        self._grace_s = GRACE_S
        self.tally = self._arrivals.tally

    def stop(self, grace_s: float = GRACE_S) -> None:
        """No new requests; those under way may end within `grace_s`, and what they fetch is stored.

        Safe to call twice, and from a signal.
        """
        self._grace_s = grace_s
        self._stopping.set()

    async def prepare(self) -> None:
        """What takes time before the first image: what waits for a decoder is what a kill costs."""
        await self._arrivals.warm_up()

    async def run(self, queues: Mapping[str, GroupQueue]) -> None:
        """Work through the queues, by group. Raises what a worker raised (StorageError, LockError).

        Whatever happens, what was fetched is committed before it returns, if the disk takes it.
        """
        flushing = asyncio.create_task(self._store.keep_flushing())
        workers = [
            asyncio.create_task(self._work(queue))
            for group, queue in queues.items()
            for _ in range(self._gate.paces[group].connections)
        ]
        try:
            await self._until_done(workers, flushing, queues)
        finally:
            self.tally.rests_s = math.inf
            failures = await self._wind_down(workers, flushing)
            await self._store.flush()
            await asyncio.gather(*(queue.close() for queue in queues.values()))
        if failures:
            raise failures[0]

    async def _until_done(
        self,
        workers: Sequence[asyncio.Task[None]],
        flushing: asyncio.Task[None],
        queues: Mapping[str, GroupQueue],
    ) -> None:
        while not self._stopping.is_set():
            done, pending = await asyncio.wait(
                [*workers, *self._arrivals.encoding, flushing],
                timeout=LOOK_S,
                return_when=asyncio.FIRST_EXCEPTION,
            )
            for task in done:
                task.result()
            if pending <= {flushing}:
                return
            self._tell_blocked(queues)

    def _tell_blocked(self, queues: Mapping[str, GroupQueue]) -> None:
        left = [group for group, queue in queues.items() if not queue.is_finished]
        blocked_s = {group: self._gate.paces[group].blocked_for_s() for group in left}
        self.tally.blocked = tuple(group for group in left if blocked_s[group] > 0)
        self.tally.rests_s = min(blocked_s.values(), default=0.0)

    async def _wind_down(
        self, workers: Sequence[asyncio.Task[None]], flushing: asyncio.Task[None]
    ) -> list[BaseException]:
        """End what waits at once, and what is under way after a moment; encode what has come.

        Returns what failed meanwhile.
        """
        self._stopping.set()
        self._gate.close()
        if workers:
            await asyncio.wait(workers, timeout=self._grace_s)
        for worker in workers:
            worker.cancel()
        ended = await asyncio.gather(*workers, return_exceptions=True)
        ended += await self._arrivals.end()
        self._store.close()
        ended += await asyncio.gather(flushing, return_exceptions=True)
        return [one for one in ended if isinstance(one, Exception)]

    async def _work(self, queue: GroupQueue) -> None:
        """One connection's worth of asking."""
        async for attempt in queue.tries():
            if self._stopping.is_set():
                return
            if self._gate.is_ignored(attempt.row.server):
                queue.settle()
                continue
            await self._store.has_room()
            url = attempt.row.target or attempt.row.identifier
            known = attempt.row.known
            place = Place(self._room)
            try:
                outcome = self._gate.refusal(url) or await fetch(
                    self._client,
                    url,
                    limits=self._limits,
                    gate=self._gate,
                    conditions=known.conditions if known else None,
                    place=place,
                )
                await self._arrivals.take(queue, attempt, outcome, place)
            except BaseException:
                place.leave()
                raise

    def _is_spared(self, row: Row, failed: Failed) -> bool:
        """Whether a failure says nothing of the row: not asked any more, or listed while it was."""
        is_over = self._stopping.is_set() and not failed.costs_a_try
        return is_over or self._gate.is_ignored(row.server)
