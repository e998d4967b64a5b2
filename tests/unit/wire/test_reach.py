"""A connection, and nothing asked."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from distributed_downloader.wire import reach
from distributed_downloader.wire.reach import connects
from tests import wire_server as wire
from tests.unit.conftest import make_settings


def port_of(server: wire.WireServer) -> str:
    return str(urlsplit(server.url()).port)


def test_who_listens_is_there_and_sees_no_request(tmp_path: Path) -> None:
    async def main() -> None:
        settings = make_settings(tmp_path, hosts={"a.test": "127.0.0.1"})
        async with wire.serve(wire.answers(wire.reply(200))) as server:
            port = port_of(server)
            assert await connects(f"a.test:{port}", settings)
            assert await connects(f"127.0.0.1:{port}", settings)
            await server.all_ended()
            assert server.requests == []
        assert not await connects(f"a.test:{port}", settings)

    asyncio.run(main())


def test_without_a_port_http_and_https_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        settings = make_settings(tmp_path, hosts={"a.test": "127.0.0.1"})
        async with wire.serve(wire.answers(wire.reply(200))) as server:
            port = int(port_of(server))
            monkeypatch.setattr(reach, "DEFAULT_PORTS", {"http": 9, "https": port})
            assert await connects("a.test", settings)
        assert not await connects("a.test", settings)

    asyncio.run(main())


def test_a_private_address_is_not_tried(tmp_path: Path) -> None:
    async def main() -> None:
        named = {"header": "User-Agent: us (mailto:me@example.org)"}
        politeness = {"allow_private_addresses": False}
        settings = make_settings(tmp_path, politeness=politeness, downloader_parameters=named)
        async with wire.serve(wire.answers(wire.reply(200))) as server:
            port = port_of(server)
            assert not await connects(f"127.0.0.1:{port}", settings)

    asyncio.run(main())


def test_a_proxy_stands_for_what_goes_through_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with wire.serve(wire.answers(wire.reply(200))) as proxy:
            settings = make_settings(tmp_path, proxy=f"http://127.0.0.1:{port_of(proxy)}")
            assert await connects("no.such.server.test:81", settings)
            await proxy.all_ended()
            assert proxy.requests == []
        assert not await connects("no.such.server.test:81", settings)

    asyncio.run(main())
