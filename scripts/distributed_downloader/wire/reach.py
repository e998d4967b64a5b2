"""Whether a server is there, and whether this node reaches the world at all.

A connection is made and closed, and nothing is asked. What goes through a proxy cannot be known
without asking: the proxy stands for it.

The world is looked at before any row could pay for it: compute nodes of many clusters have no way
out but a proxy, and a laptop may be offline. Then every server looks dead, and every row would lose
its tries.

1. A few servers are looked up and connected to, all at once; nothing is asked of them.
2. A connection is contact, and so is a refusal. What a proxy is to ask for needs contact with the
   proxy.
3. Without any contact it is the network, if it says so itself (no route, no DNS, no proxy), or if
   ENOUGH servers were tried: one or two that are silent, or unknown to DNS, may well be dead.
"""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from distributed_downloader.settings import Settings
from distributed_downloader.urls.authorities import DEFAULT_PORTS, host_of
from distributed_downloader.wire.connections import WireSettings
from distributed_downloader.wire.resolving import AnonymousError, RefusedAddressError, Resolver

TRIED = 8
ENOUGH = 3

NO_DNS = "DNS does not answer"
NO_ROUTE = "there is no route to them"
UNKNOWN = "DNS knows none of them"
SILENCE = "nothing answers"

_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH})


@dataclass(frozen=True, slots=True)
class Way:
    """Where to connect to for a server: there, or to its proxy."""

    host: str
    port: int
    is_proxy: bool


async def connects(server: str, settings: Settings) -> bool:
    """Whether one of the server's ports takes a connection (`host`, or `host:port`)."""
    wire = WireSettings.of(settings)
    resolver = Resolver(wire.names)
    try:
        for way in _ways(server, wire):
            with suppress(OSError, TimeoutError):
                await _connect(way, wire, resolver)
                return True
    finally:
        await resolver.close()
    return False


async def no_way_out(settings: Settings, servers: Sequence[str]) -> str | None:
    """Why none of these servers (`host` or `host:port`) can be reached from here, or None."""
    wire = WireSettings.of(settings)
    resolver = Resolver(wire.names)
    try:
        tries = [_contact(server, wire, resolver) for server in servers[:TRIED]]
        found = [why for tried in await asyncio.gather(*tries) for why in tried]
    finally:
        await resolver.close()
    if not found or None in found:
        return None
    may_be_theirs = len(tries) < ENOUGH and not {UNKNOWN, SILENCE}.isdisjoint(found)
    return None if may_be_theirs else Counter(found).most_common(1)[0][0]


async def _contact(server: str, wire: WireSettings, resolver: Resolver) -> list[str | None]:
    """What comes of the ways to this server: None is contact; empty if it must not be asked."""
    tries = (_why_not(way, wire, resolver) for way in _ways(server, wire))
    try:
        return await asyncio.gather(*tries)
    except (RefusedAddressError, AnonymousError):
        return []


def _ways(server: str, wire: WireSettings) -> list[Way]:
    """For http and for https, each once; a port that is named serves either."""
    host, _, port = server.rpartition(":")
    if not port.isdecimal() or not host:
        host, port = server, ""
    found = []
    for scheme, usual in DEFAULT_PORTS.items():
        number = int(port or usual)
        proxy = wire.proxies.of(scheme, host, number)
        there = Way(host, number, False)
        found.append(Way(str(proxy.host), int(proxy.port or 0), True) if proxy else there)
    return list(dict.fromkeys(found))


async def _connect(way: Way, wire: WireSettings, resolver: Resolver) -> None:
    found = await resolver.resolve(host_of(way.host), way.port, is_trusted=way.is_proxy)
    async with asyncio.timeout(wire.connect_s):
        _, writer = await asyncio.open_connection(found[0]["host"], way.port)
    writer.close()


async def _why_not(way: Way, wire: WireSettings, resolver: Resolver) -> str | None:
    try:
        await _connect(way, wire, resolver)
    except (RefusedAddressError, AnonymousError):
        raise
    except TimeoutError:
        why: str | None = SILENCE
    except socket.gaierror as error:
        why = NO_DNS if error.errno == socket.EAI_AGAIN else UNKNOWN
    except OSError as error:
        why = NO_ROUTE if error.errno in _NO_ROUTE else None
    else:
        return None
    if way.is_proxy:
        return f"the proxy {way.host}:{way.port} cannot be reached"
    return why
