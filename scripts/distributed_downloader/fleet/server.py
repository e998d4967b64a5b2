"""The fleet's process: HTTP/1.1 on many loopback addresses, cheaply, and honest only if asked.

A plain asyncio protocol, because a server that breaks HTTP on purpose needs the bare connection.
Every request is in the log when it has arrived whole, before it is answered.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import cast

from distributed_downloader.errors import ConfigError
from distributed_downloader.fleet.access_log import Access, AccessLog
from distributed_downloader.fleet.plan import FleetPlan
from distributed_downloader.fleet.replies import NOT_FOUND, Ending, Reply, Request
from distributed_downloader.fleet.site import Site

DRIP_S = 0.05  # between two pieces of a slow body
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Desk:
    """Who answers at an address, and the log that all addresses share."""

    def __init__(self, address: str, sites: Mapping[str, Site], log: AccessLog) -> None:
        self._address, self._sites, self._log = address, sites, log
        here = [site for site in sites.values() if site.plan.address == address]
        self._only = here[0] if len(here) == 1 else None
        self.connections = 0

    def reply(self, request: Request) -> Reply:
        """Decide and log; the host is the Host header's, or the only one at this address."""
        name = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        site = self._sites.get(name, self._only)
        now = time.monotonic()
        reply = site.reply(request, now) if site else NOT_FOUND
        self._log.write(
            Access(
                time=time.time(),
                monotonic=now,
                host=site.plan.name if site else name,
                group=site.plan.pace_group if site else name,
                address=self._address,
                method=request.method,
                path=request.target,
                status=reply.status,
                user_agent=request.headers.get("user-agent", ""),
                bytes=len(body_sent(reply, request)),
                connections=self.connections,
            )
        )
        return reply


def body_sent(reply: Reply, request: Request) -> bytes:
    """What of the body will leave, if the client waits for it."""
    if request.method == "HEAD":
        return b""
    return reply.body[: len(reply.body) // 2] if reply.ending is Ending.CUT else reply.body


def head(reply: Reply) -> bytes:
    """Status line and headers."""
    phrase = HTTPStatus(reply.status).phrase
    lines = [f"HTTP/1.1 {reply.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    if reply.status != 304:
        lines.append(f"Content-Length: {len(reply.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def parse_request(block: bytes) -> Request:
    """The request of this head (without its empty line); ValueError if it is none."""
    first, *lines = block.decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    return Request(method, target, {name.lower(): value.strip() for name, _, value in pairs})


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, each answered as its reply says."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._buffer = b""
        self._is_busy = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        self._transport = cast(asyncio.Transport, transport)
        self._desk.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Count it out."""
        self._desk.connections -= 1

    def data_received(self, data: bytes) -> None:
        """Take what came; a request that came while another is answered waits."""
        self._buffer += data
        self._next()

    def _next(self) -> None:
        if self._is_busy or b"\r\n\r\n" not in self._buffer:
            return
        block, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        try:
            request = parse_request(block)
        except ValueError:
            self._transport.write(BAD_REQUEST)
            self._transport.close()
            return
        self._is_busy = True
        reply = self._desk.reply(request)
        if reply.delay_s:
            asyncio.get_running_loop().call_later(reply.delay_s, self._answer, reply, request)
        else:
            self._answer(reply, request)

    def _answer(self, reply: Reply, request: Request) -> None:
        if self._transport.is_closing() or reply.ending is Ending.HANG:
            return
        if reply.ending is Ending.RESET:
            self._transport.abort()
            return
        start = b"" if reply.ending is Ending.GARBAGE else head(reply)
        body = body_sent(reply, request)
        if reply.bytes_per_s and body:
            self._transport.write(start)
            self._drip(memoryview(body), reply)
        else:
            self._transport.write(start + body)
            self._end(reply)

    def _drip(self, rest: memoryview, reply: Reply) -> None:
        if self._transport.is_closing():
            return
        piece = max(1, round((reply.bytes_per_s or 0) * DRIP_S))
        self._transport.write(rest[:piece])
        if rest[piece:]:
            asyncio.get_running_loop().call_later(DRIP_S, self._drip, rest[piece:], reply)
        else:
            self._end(reply)

    def _end(self, reply: Reply) -> None:
        if reply.ending is Ending.KEEP:
            self._is_busy = False
            self._next()
        else:
            self._transport.close()


async def listen(
    plan: FleetPlan, sites: Mapping[str, Site], log: AccessLog, stack: AsyncExitStack
) -> None:
    """Listen at every address of the plan (its port is set) until the stack unwinds.

    Raises ConfigError when an address is taken.
    """
    loop = asyncio.get_running_loop()
    for address in sorted({host.address for host in plan.hosts if host.listens}):
        desk = Desk(address, sites, log)
        try:
            server = await loop.create_server(
                lambda desk=desk: Connection(desk),  # type: ignore[misc]
                address,
                plan.port,
                backlog=1024,
            )
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise ConfigError(
                f"The fleet cannot listen at {address}:{plan.port} ({why}): end what listens "
                "there, perhaps another fleet, or choose another port."
            ) from error
        stack.push_async_callback(_close, server)


async def _close(server: asyncio.Server) -> None:
    server.close()
