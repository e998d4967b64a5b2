"""A server made of raw bytes, which does on purpose what servers do by mistake or malice.

`serve(script)` listens on 127.0.0.1; the script answers one request by writing bytes. It returns
True to keep the connection for the next request, anything else to close it. Every request that
arrived is in `requests`: what the client says it did is judged here, from the other side.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

DATA = Path(__file__).parent / "data"
CERTIFICATE = DATA / "selfsigned.pem"  # for 127.0.0.1 and tls.example, signed by nobody
EXPIRED = DATA / "expired.pem"  # the same, valid in January 2020
STRANGER = DATA / "stranger.pem"  # as selfsigned.pem, but trusted by no test
PRIVATE_KEY = DATA / "selfsigned.key"


@dataclass(frozen=True, slots=True)
class Request:
    connection: int  # counted from 0
    nth: int  # of this connection, from 0
    target: str
    headers: dict[str, str]  # names in lower case
    raw: bytes


@dataclass(slots=True)
class Exchange:
    """One request and the way to answer it."""

    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: "WireServer"

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        self.writer.transport.abort()


Script = Callable[[Exchange], Awaitable[bool | None]]


@dataclass(slots=True)
class WireServer:
    script: Script
    port: int = 0
    scheme: str = "http"
    connections: int = 0
    lost: int = 0  # connections that ended
    requests: list[Request] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Condition = field(default_factory=asyncio.Condition)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def url(self, target: str = "/a.jpg", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{target}"

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]

    async def all_ended(self) -> None:
        """Wait until every connection that was made is closed again."""
        async with self.ended, asyncio.timeout(20):
            await self.ended.wait_for(lambda: self.lost == self.connections)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        number = self.connections
        self.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, OSError):
                await self._exchanges(number, reader, writer)
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self.tasks.discard(task)
            async with self.ended:
                self.lost += 1
                self.ended.notify_all()

    async def _exchanges(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nth = 0
        keep: bool | None = True
        while keep:
            raw = await reader.readuntil(b"\r\n\r\n")
            request = _request(number, nth, raw)
            self.requests.append(request)
            self.arrived.set()
            keep = await self.script(Exchange(request, reader, writer, self))
            nth += 1


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(
    talk: Talk, at: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A port whose connections are all closed in the end, those that were just let in, too."""
    loop = asyncio.get_running_loop()
    transports: list[asyncio.BaseTransport] = []

    class Protocol(asyncio.StreamReaderProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transports.append(transport)
            super().connection_made(transport)

    server = await loop.create_server(
        lambda: Protocol(asyncio.StreamReader(), talk), at, 0, ssl=context
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        # No one more is let in; a closed server would forget whom it was just letting in.
        loop.remove_reader(server.sockets[0].fileno())
        for _ in range(20):
            await asyncio.sleep(0)  # who was just let in begins, so as to end with the others
        server.close()
        for transport in transports:
            transport.abort()  # type: ignore[attr-defined]
        for _ in range(3):
            await asyncio.sleep(0)


@asynccontextmanager
async def serve(
    script: Script, *, tls: bool = False, certificate: Path = CERTIFICATE, at: str = "127.0.0.1"
) -> AsyncIterator[WireServer]:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, PRIVATE_KEY)
    wire = WireServer(script, scheme="https" if tls else "http")
    async with listening(wire.talk, at, context) as wire.port:
        try:
            yield wire
        finally:
            for task in list(wire.tasks):
                task.cancel()
            await asyncio.gather(*wire.tasks, return_exceptions=True)


@asynccontextmanager
async def listens(first: bytes | None) -> AsyncIterator[int]:
    """A port that is no HTTP server: says this at the client's first byte, or (None) nothing."""
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.CancelledError):
            await reader.read(1)
            if first is None:
                await reader.read()
            else:
                writer.write(first)
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()

    async with listening(talk) as port:
        try:
            yield port
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _request(connection: int, nth: int, raw: bytes) -> Request:
    first, *lines = raw.decode("latin-1").split("\r\n")
    _, _, rest = first.partition(" ")
    target, _, _ = rest.rpartition(" ")
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    headers = {name.lower(): value.strip() for name, value in pairs}
    return Request(connection, nth, target, headers, raw)


def reply(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """A well-formed answer; `content_type="x"` becomes `content-type: x`."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    given.setdefault("content-length", str(len(body)))
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode("latin-1") + body


def answers(*replies: bytes) -> Script:
    """The n-th request (over all connections) gets the n-th answer, later ones the last."""

    async def script(exchange: Exchange) -> bool:
        n = min(len(exchange.server.requests), len(replies)) - 1
        await exchange.write(replies[n])
        return True

    return script


def then_closes(data: bytes) -> Script:
    """These bytes, and the end of the connection."""

    async def script(exchange: Exchange) -> None:
        await exchange.write(data)

    return script


def then_resets(data: bytes) -> Script:
    """These bytes, and a TCP reset."""

    async def script(exchange: Exchange) -> None:
        await exchange.write(data)
        exchange.reset()

    return script


def in_pieces(*pieces: bytes, pause_s: float = 0.05) -> Script:
    """Each piece in a segment of its own, then the end."""

    async def script(exchange: Exchange) -> None:
        for piece in pieces:
            await exchange.write(piece)
            await asyncio.sleep(pause_s)

    return script


def drips(head: bytes, *, pause_s: float = 0.02) -> Script:
    """The head, then a byte at a time, for ever."""

    async def script(exchange: Exchange) -> None:
        await exchange.write(head)
        while not exchange.writer.is_closing():
            await exchange.write(b"x")
            await asyncio.sleep(pause_s)

    return script


def floods(head: bytes, again: bytes) -> Script:
    """The head, then the same bytes again and again, as fast as they are taken."""

    async def script(exchange: Exchange) -> None:
        await exchange.write(head)
        while not exchange.writer.is_closing():
            await exchange.write(again)
            await asyncio.sleep(0.002)  # a client that takes everything would never make it wait

    return script


def goes_silent(head: bytes = b"") -> Script:
    """The head, then nothing, until the client goes."""

    async def script(exchange: Exchange) -> None:
        await exchange.write(head)
        await exchange.reader.read()

    return script


def drops_reused(first: bytes) -> Script:
    """Answers the first request of a connection, and drops it at the second."""

    async def script(exchange: Exchange) -> bool:
        if exchange.request.nth:
            return False
        await exchange.write(first)
        return True

    return script


def redirects_to(*locations: str, status: int = 302) -> Script:
    """The n-th request is sent to the n-th Location, the one after the last gets an image."""

    async def script(exchange: Exchange) -> bool:
        n = len(exchange.server.requests) - 1
        done = n >= len(locations)
        data = reply(200, b"image") if done else reply(status, location=locations[n])
        await exchange.write(data)
        return True

    return script
