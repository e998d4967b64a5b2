"""At which addresses servers are: looked up before a wave is planned, written down for all ranks.

Needed by `politeness.group_by: address`, where servers at one address share one budget, and by runs
that name no contact, which may ask private servers only. Others look nothing up here.

What was found holds for a wave: a rank connects to that address and no other. Before the next one
each name is looked up again. It stays where it was while DNS still says so, or nothing: answers
come in any order, and a group should not change its name without need. One that only turns up in a
wave, as a redirect's target, is nobody's until then (`is_settled`).
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from distributed_downloader.configuration.identity import check_targets, names_a_contact
from distributed_downloader.courtesy.groups import is_ip_literal, read_book, resolve_addresses
from distributed_downloader.durable import read_json, write_json
from distributed_downloader.settings import Politeness, Settings
from distributed_downloader.urls.addresses import literal
from distributed_downloader.urls.authorities import host_of
from distributed_downloader.wire.resolving import THREADS, system_lookup


def needs_whereabouts(settings: Settings) -> bool:
    """Whether anything must be looked up before servers are asked."""
    return settings.politeness.group_by == "address" or not names_a_contact(settings)


def settle_whereabouts(settings: Settings, servers: Iterable[str], listed: Iterable[str]) -> None:
    """Look up what a plan must know of these servers.

    Raises ConfigError if one of the listed ones is public, and our User-Agent names no contact.
    """
    addresses = look_up(settings, {host_of(server) for server in servers})
    check_targets(settings, {host: addresses[host] for host in map(host_of, listed)})
    if settings.politeness.group_by == "address":
        _write_down(settings, addresses)


def look_up(settings: Settings, hosts: Iterable[str]) -> dict[str, list[str]]:
    """Host -> all its addresses, by `hosts` or DNS; none if it has none."""
    table = {host_of(name): address for name, address in settings.hosts.items()}

    def ask(host: str) -> list[str]:
        spelled = literal(host)
        if spelled is not None or host in table:
            return [str(spelled or table[host])]
        try:
            return system_lookup(host)
        except (OSError, UnicodeError):
            return []

    names = sorted(set(hosts))
    with ThreadPoolExecutor(THREADS) as threads:
        return dict(zip(names, threads.map(ask, names), strict=True))


def is_settled(server: str, politeness: Politeness) -> bool:
    """Whether all ranks know the server's group; where it goes by address, it was looked up."""
    host = host_of(server)
    if politeness.group_by != "address" or is_ip_literal(host):
        return True
    return host in read_book(politeness.address_book)


def _written(settings: Settings) -> dict[str, str | None]:
    return dict(read_json(settings.politeness.address_book) or {})


def _write_down(settings: Settings, addresses: dict[str, list[str]]) -> None:
    """Where hosts are now. Before a wave, by the one process there is."""
    written = _written(settings)
    found = resolve_addresses(addresses, lambda host: addresses[host])
    for host, now_at in addresses.items():
        has_moved = now_at and written.get(host) not in now_at
        if not is_ip_literal(host) and (has_moved or host not in written):
            written[host] = found.get(host)
    write_json(settings.politeness.address_book, dict(sorted(written.items())))
    read_book.cache_clear()
