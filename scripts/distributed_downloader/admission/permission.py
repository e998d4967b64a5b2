"""Whether a server's owner lets us: robots.txt before a request, the answer's own headers after.

A robots.txt is fetched by the rank that owns its server's group, in that group's turn, once for
the whole job. One that redirects to a group of another rank is not known in this wave: we never ask
a group that is not ours. The next plan gives both groups to one rank, which reads it (RFC 9309
2.3.1.2: also across authorities).
"""

import logging
from functools import lru_cache
from typing import Protocol

import httpx

from distributed_downloader.admission.optout import opted_out
from distributed_downloader.admission.robots import (
    MAX_BYTES,
    Permit,
    RobotsAnswer,
    RobotsCache,
    Rules,
    authority_of,
    crawl_delay_s,
    evidence,
    product_token,
    verdict,
)
from distributed_downloader.courtesy.budgets import rules_of
from distributed_downloader.courtesy.group_pace import GroupPace
from distributed_downloader.records import (
    CONTENT_CODE,
    NETWORK_CODE,
    ErrorClass,
    Failed,
    Fetched,
    Outcome,
    Redirected,
)
from distributed_downloader.settings import Settings
from distributed_downloader.urls.normalise import server_of
from distributed_downloader.wire.fetching import Answer, FetchLimits, fetch
from distributed_downloader.wire.reading import quoted

log = logging.getLogger(__name__)

ROBOTS_TOTAL_S = 30.0
GUARDED = (ErrorClass.PRIVATE_ADDRESS, ErrorClass.NO_CONTACT)
KEPT = (httpx.codes.OK, httpx.codes.NOT_MODIFIED)  # answers whose image is kept, or stays


class Turns(Protocol):
    """The part of the gate that a request for a robots.txt passes."""

    async def admit_robots(self, url: str) -> Outcome | None:
        """As `admit`, without asking robots.txt."""

    async def leave(self, url: str) -> Failed | None:
        """As in `fetching.Gate`."""

    async def is_cut_off(self, began: float) -> bool:
        """As in `fetching.Gate`."""

    def heard_robots(self, url: str, answer: Answer) -> Failed | None:
        """As `heard`, without opt-outs."""

    def pace_at(self, server: str) -> GroupPace:
        """The pace of a server's group."""


class _RobotsGate:
    """The gate as a request for a robots.txt sees it."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def admit(self, url: str) -> Outcome | None:
        return await self._turns.admit_robots(url)

    async def leave(self, url: str) -> Failed | None:
        return await self._turns.leave(url)

    async def is_cut_off(self, began: float) -> bool:
        return await self._turns.is_cut_off(began)

    def heard(self, url: str, answer: Answer) -> Failed | None:
        return self._turns.heard_robots(url, answer)


class _NotAskedError(Exception):
    """The server never saw the request for its robots.txt: nothing is known, nothing is kept."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.error_msg)
        self.failed = failed


class Permission:
    """What the owners of a rank's servers have said."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient) -> None:
        self._client = client
        self._agent = product_token(settings.header.get("User-Agent", ""))
        self._cache = RobotsCache(settings.paths.robots, self._agent)
        self._rules_of = lru_cache(maxsize=10_000)(lambda server: rules_of(server, settings))
        self._failures: dict[str, Failed] = {}  # by authority: why there is no robots.txt
        self._barred: dict[str, Failed] = {}  # by authority: why it is not asked in this wave
        self._limits = FetchLimits(
            total_s=min(settings.timeouts.total_s, ROBOTS_TOTAL_S),
            min_bytes_per_s=settings.timeouts.min_bytes_per_s,
            max_bytes=MAX_BYTES,
            is_text=True,
        )
        self.crawl_delays: dict[str, float] = {}  # seconds, by server

    async def refusal(self, url: str, turns: Turns) -> Failed | None:
        """Why the URL must not be asked for, or not now; None if it may."""
        server = server_of(url)
        mode = self._rules_of(server).robots
        if mode == "ignore":
            return None
        authority = authority_of(url)
        try:
            rules = await self._rules(authority, turns)
        except _NotAskedError as error:
            return error.failed
        self._slow_down(server, rules, turns)
        permit = verdict(rules, url, self._agent)
        if permit is Permit.ALLOWED or mode == "crawl_delay_only":
            return None
        if permit is Permit.UNREACHABLE:
            return self._failures.get(authority) or _unreachable(evidence(rules, url, self._agent))
        message = evidence(rules, url, self._agent)
        return Failed(ErrorClass.ROBOTS_DISALLOWED, CONTENT_CODE, message, False, final_url=url)

    def opt_out(self, url: str, answer: Answer) -> Failed | None:
        """Why an image that was brought is not for us, by its answer's own headers."""
        counted = self._rules_of(server_of(url)).opt_out_headers
        found = opted_out(answer.headers, counted, self._agent)
        if found is None or answer.status not in KEPT:
            return None
        return Failed(ErrorClass.OPTED_OUT, CONTENT_CODE, found, retryable=False, final_url=url)

    async def _rules(self, authority: str, turns: Turns) -> Rules:
        async def ask(url: str) -> RobotsAnswer:
            if authority in self._barred:  # its rows need no turns to hear it again
                raise _NotAskedError(self._barred[authority])
            outcome = await self._fetch(url, turns)
            if isinstance(outcome, Redirected):
                turns.pace_at(server_of(url)).robots_lead_to(server_of(outcome.target))
                self._barred[authority] = _elsewhere(url, outcome.target)
                raise _NotAskedError(self._barred[authority])
            if isinstance(outcome, Failed) and _says_nothing(outcome, authority):
                if outcome.error_class in GUARDED:
                    self._barred[authority] = outcome
                raise _NotAskedError(outcome)
            answer = answer_of(outcome)
            self._failures.pop(authority, None)
            if isinstance(outcome, Failed) and answer.status is None:
                self._failures[authority] = _not_asked(outcome)
            return answer

        return await self._cache.rules(authority, ask)

    async def _fetch(self, url: str, turns: Turns) -> Outcome:
        """One attempt; while the group is stopped, another one after the stop."""
        while True:
            gate = _RobotsGate(turns)
            outcome = await fetch(self._client, url, limits=self._limits, gate=gate)
            if not isinstance(outcome, Failed) or outcome.costs_a_try:
                return outcome
            if outcome.error_class is ErrorClass.INTERNAL and outcome.was_sent:
                return outcome  # we are stopping, or out of connections

    def _slow_down(self, server: str, rules: Rules, turns: Turns) -> None:
        delay_s = crawl_delay_s(rules, self._agent)
        if delay_s and delay_s > self.crawl_delays.get(server, 0.0):  # of http, https, a new copy
            log.info("%s: robots.txt asks for %g s between requests", server, delay_s)
            self.crawl_delays[server] = delay_s
            turns.pace_at(server).keep_apart(delay_s)


def _says_nothing(failed: Failed, authority: str) -> bool:
    """Stopped, out of connections, or an address of the server's own that we do not ask."""
    is_its_own = authority_of(failed.final_url or "") == authority
    return not failed.costs_a_try or (failed.error_code == CONTENT_CODE and is_its_own)


def answer_of(outcome: Outcome) -> RobotsAnswer:
    """What the fetch of a robots.txt means; one that leads nowhere, or to the ignored, is none."""
    match outcome:
        case Fetched():
            return RobotsAnswer(outcome.status, outcome.body)
        case Failed() if outcome.error_code > 0:
            return RobotsAnswer(outcome.error_code)
        case Failed() if outcome.error_code == NETWORK_CODE:
            return RobotsAnswer(None)
        case _:
            return RobotsAnswer(404)


def _unreachable(message: str) -> Failed:
    return Failed(ErrorClass.ROBOTS_UNREACHABLE, NETWORK_CODE, message, True, is_over_for_now=True)


def _elsewhere(url: str, target: str) -> Failed:
    message = (
        f"{url} redirects to {quoted(target)}, which another rank asks: the next wave reads it"
    )
    return _unreachable(message)


def _not_asked(failed: Failed) -> Failed:
    """The robots.txt's own failure, for the rows behind it: none of them was asked for."""
    return Failed(
        failed.error_class,
        failed.error_code,
        f"robots.txt: {failed.error_msg}",
        retryable=True,
        is_over_for_now=True,
    )
