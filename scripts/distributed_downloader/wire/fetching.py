"""One attempt at one URL: every hop asked for through the gate, every end a value.

Nothing here waits for a turn, repeats or remembers: the gate paces, the group's queue repeats.
Time that passes in the gate is not the server's, and does not count against the deadline.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Protocol

import httpx

from distributed_downloader.records import (
    ErrorClass,
    Failed,
    Fetched,
    Outcome,
    Unchanged,
)
from distributed_downloader.wire.outcomes import failed, late, refused
from distributed_downloader.wire.reading import FetchLimits, Pace, Reader
from distributed_downloader.wire.redirects import REDIRECTS, next_url
from distributed_downloader.wire.room import Place

__all__ = ["Answer", "FetchLimits", "Gate", "fetch"]

_UNANSWERED = frozenset({ErrorClass.DNS, ErrorClass.CONNECT, ErrorClass.RESET, ErrorClass.TIMEOUT})


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request brought, for those who pace and count.

    With neither a status nor an error_class the request was given up by ourselves (cancelled).
    """

    status: int | None
    headers: Mapping[str, str]  # names in any case
    latency_s: float  # until the headers, or until it failed
    nbytes: int  # of the body, as they came over the wire
    error_class: ErrorClass | None = None


class Gate(Protocol):
    """Who decides whether, and when, a request may be sent."""

    async def admit(self, url: str) -> Outcome | None:
        """Wait for a turn. None: send it now, a slot is taken. An Outcome ends the attempt."""

    async def leave(self, url: str) -> Failed | None:
        """Its connection stands: wait until it may really go out. A Failed: it must not."""

    async def is_cut_off(self, began: float) -> bool:
        """Whether what nobody answered, begun at that time of the loop's, is nobody's fault."""

    def heard(self, url: str, answer: Answer) -> Failed | None:
        """Once for every admitted request: frees its slot. A Failed ends the attempt."""


@dataclass(slots=True)
class _Asked:
    """One request under way: what is known of it so far."""

    url: str
    gate: Gate
    began: float
    conditions: Mapping[str, str] = field(default_factory=dict)
    waited_s: float = 0.0  # for its turn to leave, once its connection stood
    left_at: float | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_s: float | None = None
    place: Place | None = None  # for its body
    reader: Reader | None = None

    async def leave(self, pace: Pace) -> None:
        """Wait for the turn to leave, at nobody's cost. Raises _HeldBackError."""
        before = _now()
        with pace.paused():
            held_back = await self.gate.leave(self.url)
        self.left_at = _now()
        self.waited_s = self.left_at - before
        if held_back is not None:
            raise _HeldBackError(held_back)

    @property
    def spent_s(self) -> float:
        """Seconds that it has taken so far, the gate's apart."""
        return _now() - self.began - self.waited_s

    @property
    def since_sent_s(self) -> float:
        """Seconds since it left; since its connection was begun, if it did not."""
        return _now() - (self.began if self.left_at is None else self.left_at)

    @property
    def nbytes(self) -> int:
        """Of the body, as far as it came."""
        return self.reader.nbytes if self.reader else 0

    def answer(self, error_class: ErrorClass | None) -> Answer:
        return Answer(
            self.status,
            self.headers,
            self.since_sent_s if self.latency_s is None else self.latency_s,
            self.nbytes,
            error_class,
        )


class _HeldBackError(Exception):
    """The request must not go out any more, and did not."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.error_msg)
        self.failed = failed


def _now() -> float:
    return asyncio.get_running_loop().time()


async def fetch(
    client: httpx.AsyncClient,
    url: str,
    *,
    limits: FetchLimits,
    gate: Gate,
    conditions: Mapping[str, str] | None = None,
    place: Place | None = None,
) -> Outcome:
    """Ask for the URL, follow its redirects, read the body.

    With `conditions` (RFC 9110, section 13.1: fields of every hop) a 304 is Unchanged. A request is
    sent once per hop, never repeated. Never raises for what a server does. A large body is read
    once it has its `place`; whoever gave that frees it.
    """
    left_s, hops = limits.total_s, 0
    seen = {url}
    while True:
        stopped = await gate.admit(url)
        if stopped is not None:
            return stopped
        asked = _Asked(url, gate, _now(), conditions or {}, place=place)
        result = await _heard(client, asked, replace(limits, total_s=left_s), gate)
        if isinstance(result, Failed) and len(seen) > 1:
            result = replace(result, was_sent=True)  # the hops before it were
        if not isinstance(result, httpx.Response):
            return result
        left_s -= asked.spent_s
        if left_s <= 0:  # an expired timeout would still let the next request go out
            return late(url, asked.nbytes, limits, is_too_slow=False)
        hops += 1
        target = next_url(url, result, seen, is_last=hops > limits.max_hops)
        if isinstance(target, Failed):
            return target
        seen.add(target)
        url = target


async def _heard(
    client: httpx.AsyncClient, asked: _Asked, limits: FetchLimits, gate: Gate
) -> Fetched | Unchanged | Failed | httpx.Response:
    """What one request brought (a Response: a redirect), unless the gate says otherwise."""
    try:
        result = await _ask(client, asked, limits)
        if isinstance(result, Failed) and await _is_nobodys_fault(asked, result):
            raise _HeldBackError(replace(result, costs_a_try=False, was_sent=False))
    except _HeldBackError as held_back:
        gate.heard(asked.url, asked.answer(None))
        return held_back.failed
    except BaseException:  # cancelled, or a fault of ours: the slot is given back all the same
        gate.heard(asked.url, asked.answer(None))
        raise
    error_class = result.error_class if isinstance(result, Failed) else None
    return gate.heard(asked.url, asked.answer(error_class)) or result


async def _is_nobodys_fault(asked: _Asked, failed: Failed) -> bool:
    is_silent = asked.status is None and failed.error_class in _UNANSWERED
    return is_silent and await asked.gate.is_cut_off(asked.began)


async def _ask(
    client: httpx.AsyncClient, asked: _Asked, limits: FetchLimits
) -> Fetched | Unchanged | Failed | httpx.Response:
    pace: Pace | None = None
    try:
        async with asyncio.timeout(limits.total_s) as timer:
            pace = Pace(limits, timer)
            return await _send(client, asked, limits, pace)
    except TimeoutError:
        is_too_slow = pace is not None and pace.is_too_slow
        return late(asked.url, asked.nbytes, limits, is_too_slow=is_too_slow)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return failed(asked.url, error)


async def _send(
    client: httpx.AsyncClient, asked: _Asked, limits: FetchLimits, pace: Pace
) -> Fetched | Unchanged | Failed | httpx.Response:
    request = client.build_request("GET", asked.url, headers=asked.conditions)
    request.extensions["leave"] = partial(asked.leave, pace)
    target = exact_target(asked.url)
    if target is not None:
        request.extensions["target"] = target
    response = await client.send(request, stream=True)
    try:
        asked.latency_s = asked.since_sent_s
        asked.status, asked.headers = response.status_code, response.headers
        asked.reader = Reader(response, limits, pace, asked.place)
        if response.status_code == HTTPStatus.OK:
            return _fetched(asked, await asked.reader.read())
        await asked.reader.drain()
        if response.status_code == HTTPStatus.NOT_MODIFIED and asked.conditions:
            fields = (asked.headers.get(name) for name in ("etag", "last-modified"))
            return Unchanged(*fields)
        return (
            response
            if response.status_code in REDIRECTS
            else refused(asked.url, response.status_code)
        )
    finally:
        await response.aclose()


def exact_target(url: str) -> bytes | None:
    """Path and query exactly as written; None if they cannot go into a request line like that."""
    rest = url.split("#", 1)[0].partition("://")[2]
    start = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    target = rest[start:]
    if not (target.isascii() and target.isprintable()) or " " in target:
        return None
    return target.encode() if target.startswith("/") else b"/" + target.encode()


def _fetched(asked: _Asked, body: bytes | Failed) -> Fetched | Failed:
    if isinstance(body, Failed):
        return replace(body, final_url=asked.url)
    return Fetched(
        body=body,
        status=HTTPStatus.OK,
        final_url=asked.url,
        content_type=asked.headers.get("content-type"),
        etag=asked.headers.get("etag"),
        last_modified=asked.headers.get("last-modified"),
        latency_s=asked.latency_s or 0.0,
    )
