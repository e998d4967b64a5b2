"""An HTTP forward proxy on loopback that writes down what it is asked for, as a site's own has it.

It knows the addresses of names that nobody else knows: behind a proxy, names are its business.
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.wire_server import listening

Way = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class ForwardProxy:
    """What it was asked for: `GET http://...` and `CONNECT host:port`, and the heads."""

    addresses: Mapping[str, str] = field(default_factory=dict)
    refuses_with: int = 0  # a status for everything
    port: int = 0
    asked: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._answer(reader, writer)
        await _closed(writer)
        self.tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            line, _, rest = head.partition(b"\r\n")
            method, target, version = line.decode().split(" ")
            self.asked.append(f"{method} {target}")
            self.heads.append(head)
            url = urlsplit(f"//{target}" if method == "CONNECT" else target)
            async with self._far(url.hostname or "", url.port or 80) as far:
                if far is None:
                    status = self.refuses_with or 502
                    writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
                elif method == "CONNECT":
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    await _join(reader, writer, *far)
                else:
                    path = target[target.index("/", len("http://")) :]
                    far[1].write(f"{method} {path} {version}\r\n".encode() + rest)
                    writer.write(await _one_answer(far[0]))

    @asynccontextmanager
    async def _far(self, host: str, port: int) -> AsyncIterator[Way | None]:
        """A connection to the server; None if there is none, or all is refused."""
        if self.refuses_with:
            yield None
            return
        try:
            way = await asyncio.open_connection(self.addresses.get(host, host), port)
        except OSError:
            yield None
            return
        try:
            yield way
        finally:
            await _closed(way[1])


async def _one_answer(reader: asyncio.StreamReader) -> bytes:
    """Head and body of an answer that says how long it is."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.IGNORECASE)
    assert length is not None, head
    return head + await reader.readexactly(int(length[1]))


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    there = asyncio.create_task(_pass_on(reader, far_writer))
    try:
        await _pass_on(far_reader, writer)
    finally:
        there.cancel()
        await asyncio.gather(there, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()


@asynccontextmanager
async def forwarding(proxy: ForwardProxy) -> AsyncIterator[ForwardProxy]:
    """The proxy at work in this event loop."""
    async with listening(proxy.talk) as proxy.port:
        try:
            yield proxy
        finally:
            for task in list(proxy.tasks):
                task.cancel()
            await asyncio.gather(*proxy.tasks, return_exceptions=True)


@contextmanager
def forwarding_beside(proxy: ForwardProxy) -> Iterator[ForwardProxy]:
    """The proxy at work in a thread of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    over = asyncio.Event()

    async def work() -> None:
        async with forwarding(proxy):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(work(),))
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
