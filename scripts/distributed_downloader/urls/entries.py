"""What people write for servers in settings and tables, as URLs have it, and whom it means.

1. `https://Bücher.example./x`, `*.bücher.example` and `bücher.example # why` are all the entry
   `xn--bcher-kva.example`: its scheme, path and note go, and its host is written as in a URL.
2. An entry without a port means the host and everything below it, whatever the port.
3. An entry with a port means this port of this host alone. A server that is written without a port
   is at both ports of `DEFAULT_PORTS`, so an entry with either of them means it.

Entries are read once; `names_of` then says by which of them a server goes.
"""

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache

from distributed_downloader.errors import ConfigError
from distributed_downloader.urls.authorities import (
    DEFAULT_PORTS,
    EDGES,
    host_of,
    split_authority,
)
from distributed_downloader.urls.words import Reason, UnfetchableError

_START = re.compile(r"https?:[/\\]*|[/\\]{2,}", re.IGNORECASE)
_END = re.compile(r"[/\\?]")
_SEVERAL = re.compile(r"\s|[|,;]https?:[/\\]", re.IGNORECASE)
_PATTERN = re.compile(r"[a-z0-9_.*-]+")
MAX_SHOWN = 200  # characters of a value in a sentence


def entry_of(written: str, place: str) -> str:
    """`host` or `host:port` (an IPv6 address has brackets only before a port).

    Raises ConfigError, which names `place`, for what is no host and for a wildcard with a port.
    """
    try:
        return _server(_without_wildcard(_authority(written)))
    except UnfetchableError:
        raise _no_host(written, place) from None


def host_entry_of(written: str, place: str) -> str:
    """The same for what goes by host, whatever the port."""
    return host_of(entry_of(written, place))


def pattern_of(written: str, place: str) -> str:
    """The same where `*` stands for any text: `*.example.org` and `cdn*.example.org` stay."""
    try:
        authority = _authority(written)
        return _pattern(authority) if "*" in authority else _server(authority)
    except UnfetchableError:
        raise _no_host(written, place) from None


@lru_cache(maxsize=10_000)
def key_of(written: str) -> str:
    """`pattern_of` where it may also be a group's own name, which is lower case then."""
    try:
        return pattern_of(written, "")
    except ConfigError:
        return written.strip().lower()


@lru_cache(maxsize=10_000)  # the gate asks for each request
def names_of(server: str) -> tuple[str, ...]:
    """The entries that mean this server, the closest first: with its port, its host, its domains.

    `a.org` -> `a.org:80`, `a.org:443`, `a.org`, `org`
    """
    return (*_with_port(server), *parents(host_of(server)))


def parents(host: str) -> Iterator[str]:
    """The host, then every domain above it: `a.b.org`, `b.org`, `org`."""
    labels = host.split(".")
    return (".".join(labels[start:]) for start in range(len(labels)))


def without_note(written: str | None) -> str:
    """What stands before a `#`; nothing if that is all there is."""
    return (written or "").partition("#")[0].strip(EDGES)


def _authority(written: str) -> str:
    """What stands between scheme and path, where either may be missing."""
    text = without_note(written)
    if _SEVERAL.search(text):
        raise UnfetchableError(Reason.MULTIPLE_URLS)
    start = _START.match(text)
    authority = _END.split(text[start.end() :] if start else text, maxsplit=1)[0]
    if not start and ("@" in authority or authority.endswith(":")):
        raise UnfetchableError(Reason.NOT_A_URL)  # a mail address, another scheme
    return authority


def _without_wildcard(authority: str) -> str:
    """`*.example.org` and `.example.org` are `example.org`, which means what is below it, too."""
    name = authority.removeprefix("*")
    if not name.startswith("."):
        return authority
    if ":" in name:
        raise UnfetchableError(Reason.BAD_PORT)
    return name[1:]


def _server(authority: str) -> str:
    if _is_ipv6(authority):
        return str(ipaddress.IPv6Address(authority))
    host, port = split_authority(authority, "", [])
    return host + port if port else host_of(host)


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False


def _pattern(authority: str) -> str:
    """`*.` before a host, or letters of hosts and `*` in any order."""
    if authority.startswith("*.") and "*" not in authority[1:]:
        return f"*.{_server(_without_wildcard(authority))}"
    pattern = authority.lower().rstrip(".")
    if not _PATTERN.fullmatch(pattern):
        raise UnfetchableError(Reason.BAD_HOST)
    return pattern


def _with_port(server: str) -> tuple[str, ...]:
    host, spelled = host_of(server), server.lower()
    name = f"[{host}]" if ":" in host else host
    if spelled not in (host, name):
        return (spelled,)
    return tuple(f"{name}:{port}" for port in DEFAULT_PORTS.values())


def _no_host(written: str, place: str) -> ConfigError:
    shown = f"{written[:MAX_SHOWN]}..." if len(written) > MAX_SHOWN else written
    if "*" in written:
        return ConfigError(
            f"{place} has {shown!r}, which is no wildcard for hosts: write it as *.example.org, "
            "without a port."
        )
    return ConfigError(
        f"{place} has {shown!r}, which is no host: write it as example.org, example.org:8080 or "
        "[2001:db8::1]."
    )
