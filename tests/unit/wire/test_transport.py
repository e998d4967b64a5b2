import asyncio
import errno
import os
import resource
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from distributed_downloader.settings import Settings
from distributed_downloader.wire.connections import MOST_FILES, WireSettings, most_connections
from distributed_downloader.wire.failures import (
    ExhaustedError,
    NoContactError,
    PrivateAddressError,
    TlsError,
    UnresolvedError,
)
from distributed_downloader.wire.resolving import NameSettings
from distributed_downloader.wire.transport import AiohttpTransport, NoCookies, client_of
from tests import wire_server as wire
from tests.unit.conftest import make_settings


def nowhere(name: str) -> list[str]:
    raise OSError(f"no DNS in tests: {name}")


def client_with(**settings: Any) -> httpx.AsyncClient:
    settings.setdefault("names", NameSettings(allow_private=True, lookup=nowhere))
    return httpx.AsyncClient(
        transport=AiohttpTransport(WireSettings(**settings)),
        cookies=NoCookies(),
        trust_env=False,
        timeout=None,
    )


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


async def get(client: httpx.AsyncClient, server: wire.WireServer, target: str = "/a") -> bytes:
    return (await client.get(server.url(target))).content


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


def settings_with(
    *, allow_private: bool, agent: str = "us (mail@example.org)", **hosts: str
) -> Settings:
    return make_settings(
        Path("/nowhere"),
        downloader_parameters={"header": {"User-Agent": agent, "X-More": "yes"}},
        hosts={"img.example": "127.0.0.1", **hosts},
        politeness={"allow_private_addresses": allow_private},
    )


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


def test_the_runs_client_refuses_private_addresses_unless_told_otherwise() -> None:
    async def main() -> None:
        async with (
            wire.serve(wire.answers(wire.reply(200))) as server,
            client_of(settings_with(allow_private=False)) as client,
        ):
            for host in ("img.example", "127.0.0.1"):
                with pytest.raises(PrivateAddressError):
                    await client.get(server.url(host=host))
            assert server.connections == 0

    run(main)


def test_an_anonymous_client_never_connects_to_a_public_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def connect(*_: object, **__: object) -> None:
        raise AssertionError("a socket was made for a public address")

    async def main() -> None:
        hosts = {"public.example": "192.88.100.1"}
        settings = settings_with(allow_private=True, agent="somebody", **hosts)
        async with client_of(settings) as client:
            for host in ("public.example", "192.88.100.1", "[2600::1]"):
                with pytest.raises(NoContactError, match="names no contact"):
                    await client.get(f"http://{host}/a.jpg")

    monkeypatch.setattr("distributed_downloader.wire.connections.socket", connect)
    run(main)


def test_an_anonymous_client_asks_private_servers() -> None:
    async def main() -> None:
        async with (
            wire.serve(wire.answers(wire.reply(200, b"ok"))) as server,
            client_of(settings_with(allow_private=True, agent="somebody")) as client,
        ):
            assert (await client.get(server.url(host="img.example"))).content == b"ok"

    run(main)


def test_there_is_room_for_files_beside_the_connections() -> None:
    soft_before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
        connections = most_connections()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft == min(hard, MOST_FILES)
        assert soft // 2 <= connections < soft
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft_before, hard))


def test_a_machine_without_descriptors_left_is_not_the_servers_fault() -> None:
    def exhausted(_address_info: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    async def main() -> None:
        async with wire.serve(wire.answers(wire.reply(200))) as server, client_with() as client:
            transport = client._transport
            assert isinstance(transport, AiohttpTransport)
            _, connector = transport._open()
            connector._socket_factory = exhausted
            with pytest.raises(ExhaustedError):
                await client.get(server.url())

    run(main)


def test_connections_are_reused() -> None:
    async def main() -> None:
        async with (
            wire.serve(wire.answers(wire.reply(200, b"ok"))) as server,
            client_with() as client,
        ):
            assert [await get(client, server) for _ in range(3)] == [b"ok"] * 3
            assert server.connections == 1

    run(main)


def test_a_drop_of_a_reused_connection_is_an_error_and_is_not_repeated() -> None:
    async def main() -> None:
        script = wire.drops_reused(wire.reply(200, b"ok"))
        async with wire.serve(script) as server, client_with() as client:
            await get(client, server, "/1")
            with pytest.raises(httpx.ReadError):
                await get(client, server, "/2")
            assert server.targets == ["/1", "/2"]
            assert await get(client, server, "/2") == b"ok"
            assert server.targets == ["/1", "/2", "/2"]

    run(main)


def test_one_dropped_connection_costs_one_try_though_many_lie_idle() -> None:
    together = asyncio.Barrier(4)

    async def script(exchange: wire.Exchange) -> bool:
        if exchange.request.nth:
            return False
        if exchange.request.target == "/together":
            await together.wait()
        await exchange.write(wire.reply(200, b"ok"))
        return True

    async def main() -> None:
        async with wire.serve(script) as server, client_with() as client:
            await asyncio.gather(*(get(client, server, "/together") for _ in range(4)))
            assert server.connections == 4
            with pytest.raises(httpx.ReadError):
                await get(client, server)
            assert await get(client, server) == b"ok"

    run(main)


def test_an_answer_that_nobody_asked_for_is_never_taken_for_the_next_ones() -> None:
    sent = asyncio.Event()

    async def script(exchange: wire.Exchange) -> bool:
        if exchange.request.target == "/second":
            await exchange.write(wire.reply(200, b"second"))
            return True
        await exchange.write(wire.reply(200, b"first"))
        await asyncio.sleep(0.05)  # a segment of its own, after the connection went idle
        await exchange.write(wire.reply(200, b"FORGED"))
        sent.set()
        return True

    async def main() -> None:
        async with wire.serve(script) as server, client_with() as client:
            assert await get(client, server, "/first") == b"first"
            await sent.wait()
            await asyncio.sleep(0.05)
            assert await get(client, server, "/second") == b"second"
            assert server.connections == 2

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


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "home.example"]
)
def test_private_addresses_are_never_connected_to(host: str) -> None:
    names = NameSettings(lookup=lambda _: ["127.0.0.1"])

    async def main() -> None:
        async with (
            wire.serve(wire.answers(wire.reply(200))) as server,
            client_with(names=names) as client,
        ):
            with pytest.raises(PrivateAddressError, match="not public"):
                await client.get(server.url(host=host))
            assert server.connections == 0

    run(main)


def test_the_address_is_judged_again_where_it_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "distributed_downloader.wire.resolving.checked",
        lambda _host, addresses, _settings: addresses,
    )
    names = NameSettings(lookup=lambda _: ["127.0.0.1"])

    async def main() -> None:
        async with (
            wire.serve(wire.answers(wire.reply(200))) as server,
            client_with(names=names) as client,
        ):
            with pytest.raises(PrivateAddressError, match=r"127\.0\.0\.1, which is not public"):
                await client.get(server.url(host="home.example"))
            assert server.connections == 0

    run(main)


def test_names_come_from_the_hosts_table_and_go_into_the_host_header() -> None:
    names = NameSettings(hosts={"img.example": "127.0.0.1"}, allow_private=True, lookup=nowhere)

    async def main() -> None:
        async with (
            wire.serve(wire.answers(wire.reply(200, b"ok"))) as server,
            client_with(names=names) as client,
        ):
            response = await client.get(server.url(host="img.example"))
            assert response.content == b"ok"
            assert server.requests[0].headers["host"] == f"img.example:{server.port}"

    run(main)


def test_a_name_that_does_not_resolve() -> None:
    async def main() -> None:
        names = NameSettings(lookup=lambda _: [])
        async with client_with(names=names) as client:
            with pytest.raises(UnresolvedError):
                await client.get("http://gone.example/")

    run(main)


def test_nobody_listens() -> None:
    async def main() -> None:
        async with wire.serve(wire.answers(b"")) as server:
            pass
        async with client_with() as client:
            with pytest.raises(httpx.ConnectError) as caught:
                await client.get(server.url())
            assert type(caught.value) is httpx.ConnectError
            assert caught.value.__cause__ is not None

    run(main)


def test_a_certificate_signed_by_nobody_is_refused() -> None:
    async def main() -> None:
        script = wire.answers(wire.reply(200))
        async with wire.serve(script, tls=True) as server, client_with() as client:
            with pytest.raises(TlsError, match="self-signed"):
                await client.get(server.url())
            assert server.requests == []

    run(main)


def test_a_trusted_certificate_is_accepted_for_its_names_only() -> None:
    names = NameSettings(
        hosts={"tls.example": "127.0.0.1", "else.example": "127.0.0.1"},
        allow_private=True,
        lookup=nowhere,
    )

    async def main() -> None:
        async with (
            wire.serve(wire.answers(wire.reply(200, b"ok")), tls=True) as server,
            client_with(names=names, extra_ca=str(wire.CERTIFICATE)) as client,
        ):
            assert (await client.get(server.url(host="tls.example"))).content == b"ok"
            with pytest.raises(TlsError, match=r"else\.example"):
                await client.get(server.url(host="else.example"))

    run(main)


def test_a_server_whose_certificate_need_not_be_valid_is_the_only_one(tmp_path: Path) -> None:
    servers = {"broken.example": {"verify_tls": False}, "well.example": {"verify_tls": True}}
    hosts = dict.fromkeys(["broken.example", "well.example", "other.example"], "127.0.0.1")
    settings = make_settings(tmp_path, hosts=hosts, politeness={"servers": servers})

    async def main() -> None:
        script = wire.answers(wire.reply(200, b"ok"))
        async with wire.serve(script, tls=True) as server, client_of(settings) as client:
            for host in ("well.example", "broken.example", "other.example", "broken.example"):
                if host == "broken.example":
                    assert (await client.get(server.url(host=host))).content == b"ok"
                else:
                    with pytest.raises(TlsError):
                        await client.get(server.url(host=host))
            assert len(server.requests) == 2

    run(main)


def test_plain_http_on_a_tls_port_is_a_tls_error() -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        async with wire.listens(answer) as port, client_with() as client:
            with pytest.raises(TlsError):
                await client.get(f"https://127.0.0.1:{port}/")

    run(main)


def test_a_handshake_that_is_not_answered_in_time() -> None:
    async def main() -> None:
        async with wire.listens(None) as port, client_with(connect_s=0.1) as client:
            with pytest.raises(httpx.ConnectTimeout):
                await client.get(f"https://127.0.0.1:{port}/")

    run(main)


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
