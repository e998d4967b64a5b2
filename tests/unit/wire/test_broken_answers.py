import asyncio
import os

import httpx
import pytest

from tests import wire_server as wire
from tests.unit.wire.clients import client_with, run


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (wire.then_closes(b""), httpx.ReadError),
        (wire.then_resets(b""), httpx.ReadError),
        (wire.then_closes(b"HTTP/1.1 200 OK\r\nContent-"), httpx.ReadError),
        (wire.then_closes(b"SSH-2.0-OpenSSH_9\r\n"), httpx.RemoteProtocolError),
        (wire.then_closes(b"<html>no head</html>"), httpx.RemoteProtocolError),
        (wire.then_closes(b"\x00\xff\x00\xff\r\n\r\n"), httpx.RemoteProtocolError),
        (
            wire.then_closes(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"),
            httpx.RemoteProtocolError,
        ),
        (
            wire.then_closes(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 5_000 + b"\r\n"),
            httpx.RemoteProtocolError,
        ),
        (
            wire.then_closes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na"),
            httpx.RemoteProtocolError,
        ),
        (wire.then_closes(wire.reply(200, b"abc", content_length="9")), httpx.ReadError),
        (wire.then_resets(wire.reply(200, b"abc", content_length="9")), httpx.ReadError),
        (
            wire.then_closes(wire.reply(200, b"3\r\nabc\r\n9\r\nab", transfer_encoding="chunked")),
            httpx.RemoteProtocolError,  # with a Content-Length beside: request smuggling
        ),
        (
            wire.then_closes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab"),
            httpx.ReadError,
        ),
        (
            wire.then_closes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nab"),
            httpx.RemoteProtocolError,
        ),
    ],
)
def test_broken_answers_are_httpx_errors_and_close_the_connection(
    script: wire.Script, error: type[Exception]
) -> None:
    async def main() -> None:
        async with wire.serve(script) as server, client_with() as client:
            async with asyncio.timeout(20):
                with pytest.raises(error) as caught:
                    await client.get(server.url())
            assert caught.value.__cause__ is not None
            await server.all_ended()
            assert len(server.requests) == 1

    run(main)


def test_a_bad_chunk_in_a_later_segment_ends_the_answer() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"

    async def main() -> None:
        async with wire.serve(wire.in_pieces(head, b"zz\r\n")) as server, client_with() as client:
            async with asyncio.timeout(20):
                with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                    await client.get(server.url())

    run(main)


def test_a_body_that_is_not_read_closes_its_connection() -> None:
    async def main() -> None:
        script = wire.drips(wire.reply(200, content_length="1000000"))
        async with wire.serve(script) as server, client_with() as client:
            async with client.stream("GET", server.url()) as response:
                assert response.status_code == 200
            await server.all_ended()

    run(main)


def test_a_cancelled_request_closes_its_connection() -> None:
    async def main() -> None:
        async with wire.serve(wire.goes_silent()) as server, client_with() as client:
            asking = asyncio.create_task(client.get(server.url()))
            await server.arrived.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await server.all_ended()

    run(main)


def test_no_descriptor_is_left_open_after_many_failures() -> None:
    async def main() -> None:
        script = wire.then_resets(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        async with wire.serve(script) as server, client_with() as client:
            before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
            for _ in range(50):
                with pytest.raises(httpx.ReadError):
                    await client.get(server.url())
            await server.all_ended()
            assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208

    run(main)
