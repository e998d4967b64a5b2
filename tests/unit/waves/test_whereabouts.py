"""Addresses of servers: found once, the same for all, and told where nobody may be asked."""

import asyncio
import socket
from pathlib import Path

import pytest

from distributed_downloader.courtesy.groups import group_of
from distributed_downloader.durable import read_json
from distributed_downloader.errors import ConfigError
from distributed_downloader.settings import Settings
from distributed_downloader.waves.whereabouts import (
    is_settled,
    needs_whereabouts,
    settle_whereabouts,
)
from distributed_downloader.wire.connections import WireSettings
from distributed_downloader.wire.resolving import Resolver
from tests.unit.conftest import make_settings

NAMED = {"header": "User-Agent: us (mailto:me@example.org)"}


class Dns:
    """Answers from a table, through the system's resolver."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {name.replace("_", "."): found for name, found in names.items()}
        self.asked: list[str] = []

    def __call__(self, name: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        self.asked.append(name)
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in self.names[name]]


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    dns = Dns(a_test=["10.0.0.9", "10.0.0.2"], b_test=["10.0.0.2"])
    monkeypatch.setattr("socket.getaddrinfo", dns)
    return dns


def by_address(tmp_path: Path) -> Settings:
    return make_settings(
        tmp_path,
        downloader_parameters=NAMED,
        politeness={"group_by": "address"},
        hosts={"c.test": "10.0.0.2"},
    )


def settle(settings: Settings, *servers: str) -> None:
    settle_whereabouts(settings, servers, servers)


def test_servers_at_one_address_are_one_group_for_whoever_reads_the_book(
    tmp_path: Path, dns: Dns
) -> None:
    settings = by_address(tmp_path)
    settle(settings, "a.test:8080", "b.test", "c.test", "gone.test", "10.0.0.7")
    politeness = settings.politeness
    groups = [group_of(server, politeness) for server in ("a.test", "b.test:1", "c.test")]
    assert groups == ["10.0.0.2"] * 3
    assert group_of("gone.test", politeness) == "gone.test"
    assert read_json(politeness.address_book) == {
        "a.test": "10.0.0.2",
        "b.test": "10.0.0.2",
        "c.test": "10.0.0.2",
        "gone.test": None,
    }


@pytest.mark.parametrize(
    ("now_at", "address"),
    [
        (["10.0.0.1", "10.0.0.2"], "10.0.0.2"),  # among others, and no longer the lowest
        (None, "10.0.0.2"),  # DNS is silent for now
        (["10.9.9.9"], "10.9.9.9"),  # it moved
    ],
)
def test_an_address_stays_while_dns_still_says_so(
    tmp_path: Path, dns: Dns, now_at: list[str] | None, address: str
) -> None:
    settings = by_address(tmp_path)
    settle(settings, "a.test", "gone.test")
    dns.names = {"gone.test": ["10.0.0.5"], **({"a.test": now_at} if now_at else {})}
    settle(settings, "a.test", "gone.test")
    assert group_of("a.test", settings.politeness) == address
    assert group_of("gone.test", settings.politeness) == "10.0.0.5"


def test_a_wave_connects_to_the_addresses_of_its_plan_and_to_no_other(
    tmp_path: Path, dns: Dns
) -> None:
    settings = by_address(tmp_path)
    settle(settings, "a.test", "c.test", "gone.test")
    dns.names, dns.asked = {"a.test": ["10.9.9.9"], "gone.test": ["10.9.9.9"]}, []

    async def main() -> None:
        resolver = Resolver(WireSettings.of(settings).names)
        assert await resolver.addresses("A.test") == ["10.0.0.2"]
        assert await resolver.addresses("c.test") == ["10.0.0.2"]
        with pytest.raises(socket.gaierror, match="no address when the wave was planned"):
            await resolver.addresses("gone.test")
        await resolver.close()

    asyncio.run(main())
    assert dns.asked == []
    by_name = make_settings(tmp_path / "other", downloader_parameters=NAMED)
    assert WireSettings.of(by_name).names.pinned == {}


def test_a_host_that_nobody_looked_up_is_not_settled(tmp_path: Path, dns: Dns) -> None:
    politeness = by_address(tmp_path).politeness
    assert not is_settled("a.test:80", politeness)
    assert is_settled("10.0.0.1:80", politeness)
    settle(by_address(tmp_path), "a.test", "gone.test")
    assert is_settled("a.test:80", politeness)
    assert is_settled("gone.test", politeness)
    assert is_settled("never.seen", make_settings(tmp_path).politeness)


def test_an_anonymous_run_ends_before_a_public_server_is_asked(tmp_path: Path, dns: Dns) -> None:
    dns.names["museum.example"] = ["192.88.100.1"]
    anonymous = make_settings(tmp_path)
    settle(anonymous, "a.test", "gone.test")
    with pytest.raises(ConfigError, match=r"the owner of museum\.example"):
        settle(anonymous, "a.test", "museum.example")


def test_nothing_is_looked_up_without_need(tmp_path: Path) -> None:
    assert not needs_whereabouts(make_settings(tmp_path, downloader_parameters=NAMED))
    assert needs_whereabouts(make_settings(tmp_path))
    assert needs_whereabouts(by_address(tmp_path))
