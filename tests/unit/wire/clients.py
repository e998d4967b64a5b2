"""Clients over our transport, as they are and as a run has them, for wire servers."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from distributed_downloader.settings import Settings
from distributed_downloader.wire.connections import WireSettings
from distributed_downloader.wire.resolving import NameSettings
from distributed_downloader.wire.transport import AiohttpTransport, NoCookies
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


def settings_with(
    *, allow_private: bool, agent: str = "us (mail@example.org)", **hosts: str
) -> Settings:
    return make_settings(
        Path("/nowhere"),
        downloader_parameters={"header": {"User-Agent": agent, "X-More": "yes"}},
        hosts={"img.example": "127.0.0.1", **hosts},
        politeness={"allow_private_addresses": allow_private},
    )
