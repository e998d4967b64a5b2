"""The one door through which a rank's requests go out: whose group, may we, and when.

Every request passes `admit` before it is sent, redirects, retries, samples and robots.txt too:

1. A group that another rank owns is not asked: the next wave asks there.
2. A server that is listed as ignored is not asked, nor one that has just proved to be dead.
3. robots.txt of the authority is read first, once for the whole job, and obeyed (`permission`).
4. Then the request waits for a free connection of its group, and for its turn. What 1 and 2 say
   may have changed meanwhile: a turn may be hours away.

Every answer passes `heard`: it sets its group's pace, and may say that the image is not for us.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from distributed_downloader.admission.outage import Outage
from distributed_downloader.admission.permission import Permission
from distributed_downloader.courtesy.budgets import Budget
from distributed_downloader.courtesy.group_pace import GroupPace
from distributed_downloader.courtesy.ignored import is_ignored
from distributed_downloader.courtesy.ownership import Ownership
from distributed_downloader.records import (
    CONTENT_CODE,
    NETWORK_CODE,
    ErrorClass,
    Failed,
    Outcome,
    Redirected,
)
from distributed_downloader.urls.normalise import server_of
from distributed_downloader.wire.fetching import Answer
from distributed_downloader.wire.outcomes import classify_status

log = logging.getLogger(__name__)

NOT_SENT = Answer(status=None, headers={}, latency_s=0.0, nbytes=0)


@dataclass(frozen=True, slots=True)
class GateRules:
    """What a gate asks the rest of the rank."""

    ownership: Ownership
    group_of: Callable[[str], str]  # of a server
    pace_of: Callable[[str, str], GroupPace]  # of a group, with one of its servers
    on_block: Callable[[], None]  # write down what is known, before it matters
    budget_of: Callable[[str, str], Budget] | None = None  # of a group, for one server of it
    outage: Outage | None = None  # who knows whether anybody is there at all


class Gate:
    """All groups of one rank: their paces, their connections, and the servers that are dead."""

    def __init__(self, rules: GateRules, permission: Permission) -> None:
        self._rules = rules
        self._permission = permission
        self._connections: dict[str, asyncio.Semaphore] = {}
        self._is_closed = False
        self._waiting: set[asyncio.Task[object]] = set()
        self._servers: set[str] = set()
        self.paces: dict[str, GroupPace] = {}
        self.ignored: frozenset[str] = frozenset()

    def open(self, group: str, server: str) -> GroupPace:
        """The pace of a group of ours, made when it is first asked for.

        The budget of each of its servers holds from before that server's first request.
        """
        if group not in self.paces:
            self.paces[group] = self._rules.pace_of(group, server)
            self._connections[group] = asyncio.Semaphore(self.paces[group].connections)
        if server not in self._servers and self._rules.budget_of is not None:
            self.paces[group].tighten(self._rules.budget_of(group, server))
        self._servers.add(server)
        self._rest_while_cut_off(self.paces[group])
        return self.paces[group]

    def close(self) -> None:
        """End what waits for a turn: nothing more is sent."""
        self._is_closed = True
        for task in self._waiting:
            task.cancel()

    def is_ignored(self, server: str) -> bool:
        """Whether the server was listed as ignored, perhaps while we run."""
        return is_ignored(server, self.ignored)

    def refusal(self, url: str) -> Failed | None:
        """Why a server is not even asked: it proved dead just now, and its rows wait."""
        server = server_of(url)
        pace = self.paces.get(self._rules.group_of(server))
        if pace is None or pace.down_for_s(server) <= 0:
            return None
        message = f"not asked: {server} failed too often in a row ({pace.why_down(server)})"
        return Failed(
            ErrorClass.SERVER_DOWN, NETWORK_CODE, message, retryable=True, is_over_for_now=True
        )

    async def admit(self, url: str) -> Outcome | None:
        """Wait for a turn. None: send it now. An Outcome: do not, and this is what comes of it."""
        with self._is_waiting():
            return (
                self._not_here(url)
                or await self._permission.refusal(url, self)
                or await self._turn(url)
            )

    async def admit_robots(self, url: str) -> Outcome | None:
        """As `admit`, for robots.txt itself."""
        with self._is_waiting():
            return self._not_here(url) or await self._turn(url)

    async def leave(self, url: str) -> Failed | None:
        """A request's connection stands, some time after its turn: wait until it may go out."""
        server = server_of(url)
        with self._is_waiting():
            may_go = await self.paces[self._rules.group_of(server)].leave()
        if may_go and not self._is_closed and not self.is_ignored(server):
            return None
        return _held_back(url)

    async def is_cut_off(self, began: float) -> bool:
        """Whether nobody is there: then all groups rest, and what failed counts for nothing."""
        outage = self._rules.outage
        if outage is None or not await outage.is_cut_off(began):
            return False
        for pace in self.paces.values():
            self._rest_while_cut_off(pace)
        self._rules.on_block()
        return True

    def _rest_while_cut_off(self, pace: GroupPace) -> None:
        outage = self._rules.outage
        if outage is not None and outage.until > time.monotonic():
            pace.rest(outage.until, outage.rest_s)

    def heard(self, url: str, answer: Answer) -> Failed | None:
        """What the answer means for the group; a Failed if it means that the row must not go on."""
        return self.heard_robots(url, answer) or self._permission.opt_out(url, answer)

    def heard_robots(self, url: str, answer: Answer) -> Failed | None:
        """As `heard`, for robots.txt itself."""
        server = server_of(url)
        group = self._rules.group_of(server)
        self._connections[group].release()
        if answer.status is not None and self._rules.outage is not None:
            self._rules.outage.heard(group, server)
        verdict = self.paces[group].heard(answer, server)
        if verdict.sentence:
            log.info("%s", verdict.sentence)
        if verdict.must_be_saved:
            self._rules.on_block()
        is_later = verdict.is_in_burst or verdict.blocked_for_s > 0
        if answer.status == httpx.codes.FORBIDDEN and is_later:
            return _shut_out(url, server)
        if verdict.costs_a_try or answer.status is None:
            return None
        return _not_its_fault(url, answer.status)

    def pace_at(self, server: str) -> GroupPace:
        """The pace of a server's group."""
        return self.open(self._rules.group_of(server), server)

    def _not_here(self, url: str) -> Outcome | None:
        """Rules 1 and 2."""
        server = server_of(url)
        if self._is_closed:
            return Failed(ErrorClass.INTERNAL, CONTENT_CODE, "stopped", True, costs_a_try=False)
        if not self._rules.ownership.is_ours(self._rules.group_of(server)):
            return Redirected(url)
        if self.is_ignored(server):
            message = f"redirects to {server}, which is listed as ignored"
            return Failed(ErrorClass.OPTED_OUT, CONTENT_CODE, message, retryable=False)
        return self.refusal(url)

    async def _turn(self, url: str) -> Outcome | None:
        """Wait for a connection of the group, then for its turn; `heard` gives the former back."""
        server = server_of(url)
        group = self._rules.group_of(server)
        pace = self.open(group, server)
        await self._connections[group].acquire()
        try:
            await pace.turn()
        except BaseException:
            self._connections[group].release()
            raise
        changed = self._not_here(url)
        if changed is not None:
            self.heard_robots(url, NOT_SENT)
        return changed

    @contextmanager
    def _is_waiting(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        is_first = task not in self._waiting  # a robots.txt is asked for while its image waits
        self._waiting.add(task)
        try:
            yield
        finally:
            if is_first:
                self._waiting.discard(task)


def _shut_out(url: str, server: str) -> Failed:
    """A 403 among failures, or with a time to come back: it may mean us, not this image."""
    message = f"HTTP 403 of {server}, which may mean us: a later wave asks again"
    return Failed(ErrorClass.FORBIDDEN, 403, message, True, final_url=url, is_over_for_now=True)


def _held_back(url: str) -> Failed:
    """The owner, a block or an end came first: the row is asked for anew, at no cost."""
    message = "stopped before it went out"
    return Failed(
        ErrorClass.INTERNAL, CONTENT_CODE, message, True, url, costs_a_try=False, was_sent=False
    )


def _not_its_fault(url: str, status: int) -> Failed:
    """The server refused its group: the row is tried again, and has lost nothing."""
    error_class, retryable = classify_status(status)
    message = f"HTTP {status}: the group is asked too fast"
    return Failed(error_class, status, message, retryable, final_url=url, costs_a_try=False)
