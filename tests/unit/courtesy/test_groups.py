"""Which servers share a budget."""

from pathlib import Path

import pytest

from distributed_downloader.courtesy.groups import group_of, groups_of, resolve_addresses
from distributed_downloader.durable import write_json
from distributed_downloader.errors import ConfigError
from distributed_downloader.settings import Politeness
from tests.unit.conftest import make_settings


def politeness(tmp_path: Path, **values: object) -> Politeness:
    return make_settings(tmp_path, politeness=values).politeness


@pytest.mark.parametrize(
    ("server", "group"),
    [
        ("images.example.org", "example.org"),
        ("Images.Example.ORG.:8080", "example.org"),
        ("example.org", "example.org"),
        ("www.bbc.co.uk", "bbc.co.uk"),
        ("tenant-a.s3.amazonaws.com", "tenant-a.s3.amazonaws.com"),
        ("tenant-b.s3.amazonaws.com", "tenant-b.s3.amazonaws.com"),
        ("s3.amazonaws.com", "s3.amazonaws.com"),
        ("someone.github.io", "someone.github.io"),
        ("node7.archive.test", "archive.test"),
        ("localhost:8001", "localhost"),
        ("127.0.0.3:8001", "127.0.0.3"),
        ("127.0.0.3:8002", "127.0.0.3"),
        ("[2001:db8::1]:8080", "2001:db8::1"),
        ("xn--bcher-kva.example.xn--p1ai", "example.xn--p1ai"),
        ("co.uk", "co.uk"),
        ("", ""),
    ],
)
def test_domain_is_what_one_owner_registered(tmp_path: Path, server: str, group: str) -> None:
    assert group_of(server, politeness(tmp_path)) == group


def test_nodes_of_one_archive_are_one_group_and_need_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("asked the network for the suffix list")

    monkeypatch.setattr("requests.Session.request", refuse)
    servers = [f"node{number}.archive.org" for number in range(122)]
    assert set(groups_of(servers, politeness(tmp_path)).values()) == {"archive.org"}


def test_host_ignores_the_port_only(tmp_path: Path) -> None:
    by_host = politeness(tmp_path, group_by="host")
    assert group_of("a.example.org:8080", by_host) == "a.example.org"
    assert group_of("b.example.org", by_host) == "b.example.org"


def test_names_at_one_address_are_one_group(tmp_path: Path) -> None:
    known = {"a.test": ["10.0.0.9", "10.0.0.2"], "b.test": ["10.0.0.2"], "c.test": ["::1"]}

    def resolve(host: str) -> list[str]:
        if host not in known:
            raise OSError("no such host")
        return known[host]

    servers = ["a.test:80", "b.test", "c.test", "gone.test", "10.0.0.7"]
    addresses = resolve_addresses(servers, resolve)
    assert addresses == {"a.test": "10.0.0.2", "b.test": "10.0.0.2", "c.test": "::1"}
    by_address = politeness(tmp_path, group_by="address")
    write_json(by_address.address_book, {**addresses, "gone.test": None})
    groups = groups_of(servers, by_address)
    assert groups["a.test:80"] == groups["b.test"] == "10.0.0.2"
    assert groups["gone.test"] == "gone.test"
    assert groups["10.0.0.7"] == "10.0.0.7"


def by_table(tmp_path: Path, text: str) -> Politeness:
    table = tmp_path / "groups.csv"
    table.write_text(text, encoding="utf-8")
    return politeness(tmp_path, group_by="table", group_table=str(table))


def test_table_groups_hosts_and_what_is_under_them(tmp_path: Path) -> None:
    listed = by_table(tmp_path, "host,group\nexample.org,museum\nMuseum.net,museum\n")
    assert group_of("a.example.org", listed) == group_of("museum.net:81", listed) == "museum"
    assert group_of("x.other.org", listed) == "other.org"


def test_hosts_of_a_table_are_read_as_those_of_urls(tmp_path: Path) -> None:
    lines = ["bücher.example", "https://a.org", "*.b.org", "c.org:8080", "[2001:db8:0::1]"]
    listed = by_table(tmp_path, "host,group\n" + "".join(f"{host},one\n" for host in lines))
    servers = ["xn--bcher-kva.example", "a.org", "x.b.org", "c.org", "[2001:db8::1]:81"]
    assert set(groups_of(servers[:4], listed).values()) == {"one"}
    assert group_of(servers[4], listed) == "2001:db8::1"  # an address is its own group


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("host,group\na.org,one\na.org,two\n", "two groups, one and two"),
        ("host,group\nA.org.,one\nhttp://a.org/,two\n", r"gives a\.org two groups"),
        ("host,group\na.org,one\nb org,one\n", r"line 3, has 'b org', which is no host"),
        ('host,group\n"a.org,one\nb.org,one\n', "Cannot read politeness.group_table"),
        ("host;group\na.org;one\n", "needs the columns host and group"),
        ("name,group\na.org,one\n", "needs the columns host and group"),
        ("host,group\na.org,\n", "needs the columns host and group"),
    ],
)
def test_a_table_that_makes_no_sense_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    listed = by_table(tmp_path, text)
    with pytest.raises(ConfigError, match=said):
        group_of("a.org", listed)


def test_a_missing_table_is_one_sentence(tmp_path: Path) -> None:
    missing = politeness(tmp_path, group_by="table", group_table=str(tmp_path / "no.csv"))
    with pytest.raises(ConfigError, match=r"Cannot read politeness.group_table .*no\.csv"):
        group_of("a.org", missing)
