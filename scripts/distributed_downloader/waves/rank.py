"""One rank at work: all its groups at once, one event loop, a few codec processes, one store.

    queue of a group -> gate (may we, and when) -> fetch -> codec -> store -> parts

What to do with an outcome is decided in `tries`; everything that lasts is in the store.
Nothing here waits for another rank.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import httpx

from distributed_downloader.admission.gate import Gate
from distributed_downloader.codec.processes import Codec
from distributed_downloader.records import (
    CONTENT_CODE,
    ErrorClass,
    Failed,
    Fetched,
    Outcome,
    Redirected,
    Row,
    Try,
    Unchanged,
)
from distributed_downloader.settings import Settings
from distributed_downloader.storage.store import Store
from distributed_downloader.tables import EXPECTED_HASH
from distributed_downloader.waves.group_queue import GroupQueue
from distributed_downloader.waves.tries import Effort, next_try_s, weighed
from distributed_downloader.wire.fetching import FetchLimits, fetch
from distributed_downloader.wire.reading import quoted
from distributed_downloader.wire.room import Place, Room

log = logging.getLogger(__name__)

LOOK_S = 0.5  # how often a rank looks whether it is done
GRACE_S = 3.0  # a stopped rank lets requests that are under way end for so long
BODIES_BYTES = 64 * 2**20  # of bodies that are read, or wait for the codec
IN_HAND_IMAGES = 64

OnOutcome = Callable[[Row, Outcome], None]


@dataclass(slots=True)
class Tally:
    """What a rank has done so far: small enough to be sent to rank 0 every second."""

    total: int = 0
    settled: int = 0
    spared: int = 0  # of the settled ones: nothing was learned of them, and no try counted
    images: int = 0
    errors: int = 0
    bytes: int = 0
    blocked: tuple[str, ...] = ()
    rests_s: float = 0.0  # until it may ask again: 0 at work, infinite with nothing left to do
    node: str = ""  # where it runs


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
        self._settings = settings
        self._effort = effort
        self._gate = gate
        self._client = client
        self._store = store
        self._on_outcome = on_outcome
        self._limits = FetchLimits.of(settings)
        self._codec = Codec(settings.images, settings.cpu_per_worker)
        self._room = Room(BODIES_BYTES)
        self._in_hand = asyncio.Semaphore(IN_HAND_IMAGES)
        self._encoding: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._grace_s = GRACE_S
        self.tally = Tally()

    def stop(self, grace_s: float = GRACE_S) -> None:
        """No new requests; those under way may end within `grace_s`, and what they fetch is stored.

        Safe to call twice, and from a signal.
        """
        self._grace_s = grace_s
        self._stopping.set()

    async def prepare(self) -> None:
        """What takes time before the first image: what waits for a decoder is what a kill costs."""
        await asyncio.to_thread(self._codec.warm_up)

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
                [*workers, *self._encoding, flushing],
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
        ended += await asyncio.gather(*self._encoding, return_exceptions=True)
        self._codec.close()
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
                await self._take(queue, attempt, outcome, place)
            except BaseException:
                place.leave()
                raise

    async def _take(self, queue: GroupQueue, attempt: Try, outcome: Outcome, place: Place) -> None:
        self._on_outcome(attempt.row, outcome)
        if isinstance(outcome, Fetched):
            await place.settle(len(outcome.body))
            await self._in_hand.acquire()
            encoding = asyncio.create_task(self._encode(queue, attempt, outcome, place))
            self._encoding.add(encoding)
            encoding.add_done_callback(self._encoded)
            return
        place.leave()
        match outcome:
            case Unchanged():
                self._confirm(queue, attempt, outcome)
            case Redirected():
                self._store.add_error(attempt, _elsewhere(outcome))
                self._settle(queue)
            case Failed():
                self._fail(queue, attempt, outcome)

    def _encoded(self, encoding: asyncio.Task[None]) -> None:
        """One that failed stays, to be seen by `_until_done`."""
        if encoding.cancelled() or encoding.exception() is None:
            self._encoding.discard(encoding)

    async def _encode(
        self, queue: GroupQueue, attempt: Try, fetched: Fetched, place: Place
    ) -> None:
        try:
            stored = await self._codec.encode(
                fetched.body,
                expected_hash=attempt.row.meta.get(EXPECTED_HASH),
                hash_kind=self._settings.columns["hash_kind"],
            )
        finally:
            place.leave()
            self._in_hand.release()
        if isinstance(stored, Failed):
            self._fail(queue, attempt, stored, final_url=fetched.final_url)
            return
        known = attempt.row.known
        if known and known.hashsum_original == stored.hashsum_original:
            self._confirm(queue, attempt, Unchanged(fetched.etag, fetched.last_modified))
            return
        log.debug("image stored: %s", attempt.row.uuid)
        self._store.add_image(attempt, fetched, stored)
        self.tally.images += 1
        self.tally.bytes += len(fetched.body)
        self._settle(queue)

    def _confirm(self, queue: GroupQueue, attempt: Try, unchanged: Unchanged) -> None:
        """The image that is stored stays, and was seen just now."""
        self._store.add_unchanged(attempt, unchanged)
        self._settle(queue)

    def _fail(
        self, queue: GroupQueue, attempt: Try, failed: Failed, *, final_url: str | None = None
    ) -> None:
        """Try again later, store the error, or (a sample) leave the row as it was."""
        is_over = self._stopping.is_set() and not failed.costs_a_try
        if is_over or self._gate.is_ignored(attempt.row.server):
            queue.settle()  # not asked any more, or listed while it was: left as it was
            return
        url = failed.final_url or final_url or attempt.row.identifier
        log.info(
            "%s, try %d: %s (%s)", attempt.row.uuid, attempt.number, failed.error_msg, quoted(url)
        )
        delay_s = next_try_s(attempt, failed, self._effort, random.random())
        if delay_s is not None:
            again = attempt.again(counted=failed.costs_a_try, sent=failed.was_sent)
            queue.give_back(again, delay_s)
            return
        if self._effort.keeps_retryable or not failed.retryable:
            kept = weighed(attempt, replace(failed, final_url=url), self._effort)
            self._store.add_error(attempt, kept)
            self.tally.errors += 1
            self.tally.spared += attempt.number == 1 and not kept.costs_a_try
        self._settle(queue)

    def _settle(self, queue: GroupQueue) -> None:
        queue.settle()
        self.tally.settled += 1


def _elsewhere(redirected: Redirected) -> Failed:
    return Failed(
        ErrorClass.REDIRECT_ELSEWHERE,
        CONTENT_CODE,
        "the target belongs to a group that another rank asks: left to the next wave",
        retryable=True,
        final_url=redirected.target,
    )
