"""No way out of a machine is told before a row pays for it; a dead server is the row's business."""

import asyncio
import errno
import socket
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from distributed_downloader.errors import NetworkError
from distributed_downloader.tables import PROFILES
from distributed_downloader.waves.outset import check_way_out
from tests.forward_proxy import ForwardProxy, forwarding_beside
from tests.unit.conftest import make_settings

MANY = [f"a.site{number}.test" for number in range(1, 5)]


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says to every name that there is no such name, or what it is told to say."""

    def say(number: int = socket.EAI_NONAME) -> None:
        def answer(*_: object, **__: object) -> None:
            raise socket.gaierror(number, "said DNS")

        monkeypatch.setattr("socket.getaddrinfo", answer)

    say()
    return say


@pytest.fixture
def connecting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What comes of every connection, instead of a connection."""

    def fails_with(number: int) -> None:
        async def connect(*_: object, **__: object) -> None:
            raise OSError(number, "said the system")

        monkeypatch.setattr("asyncio.open_connection", connect)

    return fails_with


def look(tmp_path: Path, servers: list[str], **sections: Any) -> None:
    asyncio.run(check_way_out(make_settings(tmp_path, **sections), servers))


def at(servers: list[str]) -> dict[str, str]:
    return {server.partition(":")[0]: "127.0.93.1" for server in servers}


def test_without_dns_the_first_look_says_so_in_one_sentence(tmp_path, dns):
    dns(socket.EAI_AGAIN)
    with pytest.raises(
        NetworkError, match=r"reaches none of 1 servers? \(a\.test, \.\.\.\): DNS does"
    ):
        look(tmp_path, ["a.test"])


def test_names_that_dns_does_not_know_are_told_if_they_are_many(tmp_path, dns):
    with pytest.raises(NetworkError, match="DNS knows none of them"):
        look(tmp_path, MANY)
    look(tmp_path, MANY[:2])


def test_without_a_route_the_first_look_says_so(tmp_path, connecting):
    connecting(errno.ENETUNREACH)
    with pytest.raises(NetworkError, match="there is no route"):
        look(tmp_path, MANY[:1], hosts=at(MANY))


def test_a_refusal_is_contact(tmp_path, connecting):
    connecting(errno.ECONNREFUSED)
    look(tmp_path, MANY, hosts=at(MANY))


def test_one_server_that_is_there_is_enough(tmp_path, dns):
    with socket.create_server(("127.0.0.1", 0)) as server:
        look(tmp_path, [*MANY, f"127.0.0.1:{server.getsockname()[1]}"])


def test_private_servers_that_may_not_be_asked_say_nothing_of_the_network(tmp_path):
    private = {"allow_private_addresses": False}
    look(tmp_path, ["127.0.0.1", "10.1.2.3", "192.168.1.1"], politeness=private)


def test_later_only_servers_that_once_answered_tell(tmp_path, dns):
    """What is left in the end is mostly dead: that is no reason to end the run."""
    settings = make_settings(tmp_path)
    (settings.paths.images / "server_name=a" / "partition_id=0").mkdir(parents=True)
    profiles(settings.paths.profiles_table, answered=[])
    look(tmp_path, MANY)
    profiles(settings.paths.profiles_table, answered=MANY)
    with pytest.raises(NetworkError):
        look(tmp_path, MANY)


def profiles(table: Path, answered: list[str]) -> None:
    rows = [{"server_name": name, "success_count": int(name in answered)} for name in MANY]
    pl.DataFrame(rows, PROFILES).write_csv(table)


def test_who_accepts_that_nothing_changes_is_not_kept_from_trying(tmp_path, dns):
    look(tmp_path, MANY, suppress_unchanged_error=True)


def test_behind_a_proxy_the_proxy_is_what_must_be_there(tmp_path, dns):
    with forwarding_beside(ForwardProxy()) as proxy:
        look(tmp_path, MANY, proxy=proxy.url)
    with pytest.raises(
        NetworkError, match=rf"the proxy 127\.0\.0\.1:{proxy.port} cannot be reached"
    ):
        look(tmp_path, MANY[:1], proxy=proxy.url)
