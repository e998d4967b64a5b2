"""Which servers share one budget: `politeness.group_by`, decided from names alone.

1. An IP literal is its own group, whatever its port.
2. `host`: the name without its port.
3. `domain`: the registrable domain by the Public Suffix List with its private section (two
   tenants' buckets are two groups). No rule for a name means the rule `*`, as the list says.
4. `address`: the address that the name was found at (`whereabouts`); one without goes by domain.
5. `table`: the user's CSV (host,group); the longest listed parent wins, whatever its port; others
   go by domain.

The list is the copy that tldextract brings: nothing is ever fetched, so every rank decides alike.
"""

import csv
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path

import tldextract

from distributed_downloader.durable import read_json
from distributed_downloader.errors import ConfigError
from distributed_downloader.settings import Politeness
from distributed_downloader.urls.authorities import host_of
from distributed_downloader.urls.entries import host_entry_of, parents

Resolve = Callable[[str], Iterable[str]]


def group_of(server: str, politeness: Politeness) -> str:
    """The group of a server (`host` or `host:port`)."""
    host = host_of(server)
    if is_ip_literal(host) or politeness.group_by == "host":
        return host
    if politeness.group_by == "address":
        return read_book(politeness.address_book).get(host) or registrable_domain(host)
    if politeness.group_by == "table":
        return _listed_group(host, politeness.group_table) or registrable_domain(host)
    return registrable_domain(host)


def groups_of(servers: Iterable[str], politeness: Politeness) -> dict[str, str]:
    """Server -> group, for many."""
    return {server: group_of(server, politeness) for server in set(servers)}


@cache
def read_book(book: Path) -> Mapping[str, str | None]:
    """Host -> the address that stands for it, None if it has none; nothing without a book.

    It is written before a wave, never in one: whoever writes it clears this cache.
    """
    return read_json(book) or {}


def resolve_addresses(servers: Iterable[str], resolve: Resolve) -> dict[str, str]:
    """Host -> the one address that stands for it: the lowest, so that every run picks the same.

    `resolve` gives a host's addresses, none if it has none; OSError counts as none.
    """
    hosts = {host_of(server) for server in servers}
    found = {host: _lowest(host, resolve) for host in sorted(hosts) if not is_ip_literal(host)}
    return {host: address for host, address in found.items() if address}


def _lowest(host: str, resolve: Resolve) -> str | None:
    try:
        addresses = [ipaddress.ip_address(address) for address in resolve(host)]
    except OSError:
        return None
    best = min(addresses, key=lambda address: (address.version, int(address)), default=None)
    return None if best is None else str(best)


@lru_cache(maxsize=100_000)
def is_ip_literal(host: str) -> bool:
    """Whether the host (without port and brackets) is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=100_000)
def registrable_domain(host: str) -> str:
    """What one owner registered; the host itself where it is a public suffix or a bare name."""
    found = _suffix_list()(host)
    if found.suffix:
        return found.top_domain_under_public_suffix or host
    return ".".join(host.split(".")[-2:])


@cache
def _suffix_list() -> tldextract.TLDExtract:
    return tldextract.TLDExtract(
        suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True
    )


def _listed_group(host: str, table: Path | None) -> str | None:
    if table is None:
        raise ConfigError(
            "politeness.group_by is 'table', but politeness.group_table names no file."
        )
    listed = _read_table(table)
    return next((listed[name] for name in parents(host) if name in listed), None)


def groups_in(table: Path) -> frozenset[str]:
    """The groups of the user's CSV. Raises ConfigError if it cannot be read or makes no sense."""
    return frozenset(_read_table(table).values())


@cache
def _read_table(table: Path) -> Mapping[str, str]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"Cannot read politeness.group_table {table}: {error}.") from error
    groups: dict[str, str] = {}
    for line, row in rows:
        written, group = (row.get("host") or "").strip(), (row.get("group") or "").strip()
        if not written or not group:
            raise ConfigError(
                f"politeness.group_table {table} needs the columns host and group, "
                f"both filled in every line; this line is not: {dict(row)}."
            )
        host = host_entry_of(written, f"politeness.group_table {table}, line {line},")
        if groups.setdefault(host, group) != group:
            raise ConfigError(
                f"politeness.group_table {table} gives {host} two groups, "
                f"{groups[host]} and {group}: keep one of the lines."
            )
    return groups
