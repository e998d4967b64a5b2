import asyncio
import errno
import resource
from typing import Any

import httpx
import pytest

from distributed_downloader.wire.connections import MOST_FILES, most_connections
from distributed_downloader.wire.failures import (
    ExhaustedError,
    NoContactError,
    PrivateAddressError,
    UnresolvedError,
)
from distributed_downloader.wire.resolving import NameSettings
from distributed_downloader.wire.transport import AiohttpTransport, client_of
from tests import wire_server as wire
from tests.unit.wire.clients import client_with, get, nowhere, run, settings_with


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
