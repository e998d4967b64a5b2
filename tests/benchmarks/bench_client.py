"""CPU time of one request: our client beside plain aiohttp and plain httpx.

    python tests/benchmarks/bench_client.py [requests]

The server is a process of its own on loopback, so that only the client's CPU is counted. Each
client asks for the same small image over 4 and over 64 connections; the rounds are interleaved,
and the best of each is printed, in ms a request and as a share of plain aiohttp in the same run.
"""

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import httpx

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from distributed_downloader.records import Failed, Fetched, Outcome
from distributed_downloader.wire.connections import WireSettings
from distributed_downloader.wire.fetching import Answer, FetchLimits, fetch
from distributed_downloader.wire.resolving import NameSettings
from distributed_downloader.wire.transport import AiohttpTransport, NoCookies

BODY = bytes(20_000)
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 20000\r\n\r\n" + BODY
CONNECTIONS = (4, 64)
ROUNDS = 3

Get = Callable[[], Awaitable[bytes]]
Client = Callable[[str, int], AbstractAsyncContextManager[Get]]


class Server(asyncio.Protocol):
    """Answers every blank line with the same image."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            self.transport.write(REPLY)  # type: ignore[attr-defined]


def serve(ready: Connection) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


class OpenGate:
    """Lets everything pass at once."""

    async def admit(self, url: str) -> Outcome | None:
        return None

    async def leave(self, url: str) -> Failed | None:
        return None

    async def is_cut_off(self, began: float) -> bool:
        return False

    def heard(self, url: str, answer: Answer) -> Failed | None:
        return None


def our_transport() -> AiohttpTransport:
    return AiohttpTransport(WireSettings(names=NameSettings(allow_private=True)))


@asynccontextmanager
async def plain_aiohttp(url: str, connections: int):  # type: ignore[no-untyped-def]
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def get() -> bytes:
            async with session.get(url) as response:
                return await response.read()

        yield get


@asynccontextmanager
async def plain_httpx(url: str, connections: int):  # type: ignore[no-untyped-def]
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:

        async def get() -> bytes:
            return (await client.get(url)).content

        yield get


@asynccontextmanager
async def our_client(url: str, connections: int):  # type: ignore[no-untyped-def]
    async with httpx.AsyncClient(
        transport=our_transport(), cookies=NoCookies(), trust_env=False, timeout=None
    ) as client:

        async def get() -> bytes:
            return (await client.get(url)).content

        yield get


@asynccontextmanager
async def our_fetch(url: str, connections: int):  # type: ignore[no-untyped-def]
    limits = FetchLimits(total_s=60, min_bytes_per_s=100, max_bytes=1_000_000)
    gate = OpenGate()
    async with httpx.AsyncClient(
        transport=our_transport(), cookies=NoCookies(), trust_env=False, timeout=None
    ) as client:

        async def get() -> bytes:
            outcome = await fetch(client, url, limits=limits, gate=gate)
            assert isinstance(outcome, Fetched)
            return outcome.body

        yield get


CLIENTS: dict[str, Client] = {
    "aiohttp": plain_aiohttp,
    "our client": our_client,
    "our fetch": our_fetch,
    "httpx": plain_httpx,
}


async def cpu_ms(client: Client, url: str, connections: int, requests: int) -> float:
    """CPU ms a request, with so many workers asking one after another."""
    async with client(url, connections) as get:

        async def work(share: int) -> None:
            for _ in range(share):
                body = await get()
                assert len(body) == len(BODY)

        await asyncio.gather(*(work(1) for _ in range(connections)))  # connections are open now
        started = time.process_time()
        share = max(1, requests // connections)
        await asyncio.gather(*(work(share) for _ in range(connections)))
        return (time.process_time() - started) * 1000 / (share * connections)


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/image.jpg?size=large"
    best: dict[tuple[str, int], float] = {}
    for _ in range(ROUNDS):
        for connections in CONNECTIONS:
            for name, client in CLIENTS.items():
                spent = asyncio.run(cpu_ms(client, url, connections, requests))
                key = (name, connections)
                best[key] = min(spent, best.get(key, spent))
    server.terminate()
    server.join()
    print(f"CPU ms a request of {len(BODY)} bytes (of plain aiohttp), best of {ROUNDS} rounds")
    for name in CLIENTS:
        figures = (
            f"{n} connections {best[name, n]:.2f} ({best[name, n] / best['aiohttp', n]:.1f}x)"
            for n in CONNECTIONS
        )
        print(f"{name:>10}: " + ", ".join(figures))


if __name__ == "__main__":
    main()
