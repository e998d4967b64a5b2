"""Whether this node reaches the world at all, before any row could pay for it.

Compute nodes of many clusters have no way out but a proxy, and a laptop may be offline. Then every
server looks dead, and every row would lose its tries.

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
    host, _, port = server.rpartition(":")
    if not port.isdecimal() or not host:
        host, port = server, ""
    ports = {scheme: int(port or DEFAULT_PORTS[scheme]) for scheme in DEFAULT_PORTS}
    proxies = {scheme: wire.proxies.of(scheme, host, ports[scheme]) for scheme in ports}
    ways = {
        (str(proxy.host), int(proxy.port or 0), True) if proxy else (host, ports[scheme], False)
        for scheme, proxy in proxies.items()
    }
    try:
        return await asyncio.gather(*(_try(*way, wire, resolver) for way in sorted(ways)))
    except (RefusedAddressError, AnonymousError):
        return []


async def _try(
    host: str, port: int, is_proxy: bool, wire: WireSettings, resolver: Resolver
) -> str | None:
    try:
        found = await resolver.resolve(host_of(host), port, is_trusted=is_proxy)
        async with asyncio.timeout(wire.connect_s):
            _, writer = await asyncio.open_connection(found[0]["host"], port)
        writer.close()
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
    if is_proxy:
        return f"the proxy {host}:{port} cannot be reached"
    return why
