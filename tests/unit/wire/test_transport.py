import asyncio
from typing import Any

import httpx
import pytest

from distributed_downloader.wire.transport import client_of
from tests import wire_server as wire
from tests.unit.wire.clients import client_with, get, run, settings_with


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb/%7Euser/c",
        "/%c3%a9%C3%A9",
        "/a+b;v=1?x=%20b&c=d|e&f=[1]{2}^`",
        "/a?",
        "/?",
        "//double//slash/",
        "/a/../b/./c",
        "/%2e%2e/%zz%",
        "/a'b\"c<d>e\\f",
        "/iiif/2/x.jpg/full/!800,600/0/default.jpg",
        "/a?b?c=%26&amp;d=@:$,*()",
        "/~user/-._!$&'()*+,;=:@",
    ],
)
def test_the_target_arrives_byte_for_byte(target: str) -> None:
    async def main() -> None:
        async with wire.serve(wire.answers(wire.reply(200))) as server, client_with() as client:
            await client.get(server.url("/"), extensions={"target": target.encode()})
            assert server.targets == [target]

    run(main)


@pytest.mark.parametrize("target", [b"/a b", b"/a\r\nX: y", b"*", b"http://other/", b"/\xff"])
def test_a_target_that_would_break_the_request_line_is_not_sent(target: bytes) -> None:
    async def main() -> None:
        async with wire.serve(wire.answers(wire.reply(200))) as server, client_with() as client:
            with pytest.raises(httpx.LocalProtocolError):
                await client.get(server.url("/"), extensions={"target": target})
            assert server.connections == 0

    run(main)


def test_only_the_headers_given_are_sent() -> None:
    async def main() -> None:
        async with wire.serve(wire.answers(wire.reply(200))) as server, client_with() as client:
            client.headers = httpx.Headers({"User-Agent": "us (mail@example.org)"})
            await get(client, server)
            sent = server.requests[0].headers
            assert sent.pop("accept", "*/*") == "*/*"
            assert sent.pop("accept-encoding", "") is not None
            assert sent.pop("connection", "keep-alive") == "keep-alive"
            assert sent == {
                "host": f"127.0.0.1:{server.port}",
                "user-agent": "us (mail@example.org)",
            }

    run(main)


def test_the_runs_client_says_who_it_is_and_asks_for_no_compression() -> None:
    async def main() -> None:
        async with (
            wire.serve(wire.answers(wire.reply(302, location="/elsewhere"))) as server,
            client_of(settings_with(allow_private=True)) as client,
        ):
            response = await client.get(server.url(host="img.example"))
            assert response.status_code == 302
            sent = server.requests[0].headers
            assert sent["user-agent"] == "us (mail@example.org)"
            assert (sent["accept-encoding"], sent["x-more"]) == ("identity", "yes")

    run(main)


def test_redirects_are_not_followed_and_a_broken_location_is_no_error() -> None:
    async def main() -> None:
        script = wire.answers(wire.reply(302, location="http://[broken"))
        async with wire.serve(script) as server, client_with() as client:
            response = await client.get(server.url())
            assert (response.status_code, response.headers["location"]) == (302, "http://[broken")
            assert len(server.requests) == 1

    run(main)


def test_cookies_are_neither_kept_nor_sent() -> None:
    async def main() -> None:
        script = wire.answers(wire.reply(200, set_cookie="id=1; Path=/"))
        settings = settings_with(allow_private=True)
        async with wire.serve(script) as server, client_of(settings) as client:
            await get(client, server)
            await get(client, server)
            assert "cookie" not in server.requests[1].headers

    run(main)


def test_proxies_and_passwords_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def main() -> None:
        async with (
            wire.serve(wire.answers(wire.reply(200, b"ok"))) as server,
            client_with() as client,
        ):
            assert await get(client, server) == b"ok"
            assert "authorization" not in server.requests[0].headers

    run(main)


def test_bodies_are_handed_out_as_they_come_compressed_or_not() -> None:
    async def main() -> None:
        script = wire.answers(wire.reply(200, b"\x1f\x8bnot unpacked", content_encoding="gzip"))
        async with (
            wire.serve(script) as server,
            client_with() as client,
            client.stream("GET", server.url()) as response,
        ):
            parts = [part async for part in response.aiter_raw()]
            assert b"".join(parts) == b"\x1f\x8bnot unpacked"

    run(main)


def test_a_request_leaves_when_it_is_told_to_once_its_connection_stands() -> None:
    async def main() -> None:
        async with wire.serve(wire.answers(wire.reply(200))) as server, client_with() as client:
            told: list[int] = []

            async def leave() -> None:
                await asyncio.sleep(0.01)
                told.append(len(server.requests))

            request = client.build_request("GET", server.url("/a"))
            request.extensions["leave"] = leave
            await client.send(request)
            assert told == [0]
            assert len(server.requests) == 1
            dead = client.build_request("GET", "http://127.0.0.1:9/")
            dead.extensions["leave"] = leave
            with pytest.raises(httpx.ConnectError):
                await client.send(dead)
            assert told == [0]

    run(main)


def test_one_that_is_held_back_is_never_seen_and_its_connection_is_closed() -> None:
    class HeldBackError(Exception):
        pass

    async def hold_back() -> None:
        raise HeldBackError

    async def main() -> None:
        async with wire.serve(wire.answers(wire.reply(200))) as server, client_with() as client:
            request = client.build_request("GET", server.url("/a"))
            request.extensions["leave"] = hold_back
            with pytest.raises(HeldBackError):
                await client.send(request)
            await server.all_ended()
            assert server.requests == []

    run(main)
