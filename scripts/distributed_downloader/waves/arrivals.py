"""What came of each row, until it is stored or will be tried again.

A body goes through the codec and becomes an image; everything else, and what the codec refuses, is
an error or another try. What to do with an error is decided in `tries`.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace

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
from distributed_downloader.waves.news import Tally
from distributed_downloader.waves.tries import Effort, next_try_s, weighed
from distributed_downloader.wire.reading import quoted
from distributed_downloader.wire.room import Place

log = logging.getLogger(__name__)

IN_HAND_IMAGES = 64  # that the codec has, or that wait for it

OnOutcome = Callable[[Row, Outcome], None]


class Arrivals:
    """All that comes to one rank; `is_spared` says of whom a failure shall leave no trace."""

    def __init__(
        self,
        settings: Settings,
        effort: Effort,
        store: Store,
        on_outcome: OnOutcome,
        is_spared: Callable[[Row, Failed], bool],
    ) -> None:
        self._hash_kind = settings.columns["hash_kind"]
        self._effort = effort
        self._store = store
        self._on_outcome = on_outcome
        self._is_spared = is_spared
        self._codec = Codec(settings.images, settings.cpu_per_worker)
        self._in_hand = asyncio.Semaphore(IN_HAND_IMAGES)
        self.encoding: set[asyncio.Task[None]] = set()  # a task that failed stays, to be seen
        self.tally = Tally()

    async def warm_up(self) -> None:
        """Start a decoder before it is needed."""
        await asyncio.to_thread(self._codec.warm_up)

    async def take(self, queue: GroupQueue, attempt: Try, outcome: Outcome, place: Place) -> None:
        """Once for every row that was asked for; `place` is held for its body, and given back."""
        self._on_outcome(attempt.row, outcome)
        if isinstance(outcome, Fetched):
            await place.settle(len(outcome.body))
            await self._in_hand.acquire()
            encoding = asyncio.create_task(self._encode(queue, attempt, outcome, place))
            self.encoding.add(encoding)
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

    async def end(self) -> list[BaseException]:
        """Encode what has come, and close the codec. Returns what failed."""
        ended = await asyncio.gather(*self.encoding, return_exceptions=True)
        self._codec.close()
        return [one for one in ended if isinstance(one, Exception)]

    def _encoded(self, encoding: asyncio.Task[None]) -> None:
        if encoding.cancelled() or encoding.exception() is None:
            self.encoding.discard(encoding)

    async def _encode(
        self, queue: GroupQueue, attempt: Try, fetched: Fetched, place: Place
    ) -> None:
        try:
            stored = await self._codec.encode(
                fetched.body,
                expected_hash=attempt.row.meta.get(EXPECTED_HASH),
                hash_kind=self._hash_kind,
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
        if self._is_spared(attempt.row, failed):
            queue.settle()
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
