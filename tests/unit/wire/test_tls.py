from pathlib import Path

import httpx
import pytest

from distributed_downloader.wire.failures import TlsError
from distributed_downloader.wire.resolving import NameSettings
from distributed_downloader.wire.transport import client_of
from tests import wire_server as wire
from tests.unit.conftest import make_settings
from tests.unit.wire.clients import client_with, nowhere, run


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
