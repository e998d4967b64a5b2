"""Whether a server is there at all: a connection is made and closed, and nothing is asked.

Of what goes through a proxy nothing can be known without asking: the proxy stands for it.
"""

import asyncio
from contextlib import suppress

from distributed_downloader.settings import Settings
from distributed_downloader.urls.authorities import host_of
from distributed_downloader.wire.connections import WireSettings
from distributed_downloader.wire.resolving import Resolver

DEFAULT_PORTS = (443, 80)


async def connects(server: str, settings: Settings) -> bool:
    """Whether one of the server's addresses takes a connection (`host`, or `host:port`)."""
    wire, host = WireSettings.of(settings), host_of(server)
    port = server.removeprefix(host).removeprefix(f"[{host}]").removeprefix(":")
    resolver = Resolver(wire.names)
    try:
        for number in [int(port)] if port else DEFAULT_PORTS:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(wire.connect_s):
                    proxy = wire.proxies.of("https" if number == 443 else "http", host, number)
                    if proxy:
                        way = str(proxy.host), proxy.port
                    else:
                        way = (await resolver.resolve(host, number))[0]["host"], number
                    _, writer = await asyncio.open_connection(*way)
                writer.close()
                return True
    finally:
        await resolver.close()
    return False
