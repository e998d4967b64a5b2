"""Which addresses may be connected to: those of the public internet, whatever they are wrapped in.

1. An address is judged, never a name: names are resolved first, and what is judged is connected to.
2. A literal means what the C library reads in it: `127.1`, `0x7f.1`, `017700000001` are 127.0.0.1.
3. IPv4 inside IPv6 (mapped, NAT64) is judged as the IPv4 address that is reached in the end.
4. IPv6 is public only in 2000::/3, IPv4 unless the IANA special-purpose registries (RFC 6890) say
   otherwise. Tunnels that nobody runs any more (6to4, Teredo) are refused as a whole.
"""

import re
import socket
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

IPAddress = IPv4Address | IPv6Address

_REFUSED = (
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "cloud metadata"),  # Azure's, at an address that looks public
    ("169.254.0.0/16", "link-local or cloud metadata"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("fc00::/7", "private or cloud metadata"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
    ("2001::/32", "Teredo"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
)
_REFUSED_V4 = [(IPv4Network(net), why) for net, why in _REFUSED if ":" not in net]
_REFUSED_V6 = [(IPv6Network(net), why) for net, why in _REFUSED if ":" in net]
_GLOBAL_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: what an IPv6-only network makes of IPv4 names

_LEGACY_IPV4 = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}", re.IGNORECASE)


def literal(host: str) -> IPAddress | None:
    """The address that a URL's host spells, in any notation the C library reads, or None."""
    host = host.removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return ip_address(host)
    except ValueError:
        pass
    if not _LEGACY_IPV4.fullmatch(host):
        return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def refusal(ip: str | IPAddress) -> str | None:
    """Why this address must not be connected to, in a word or two; None if it is public."""
    address = literal(ip) if isinstance(ip, str) else ip
    if address is None:
        return "not an address"
    if isinstance(address, IPv4Address):
        return next((why for net, why in _REFUSED_V4 if address in net), None)
    inner = _inner_ipv4(address)
    if inner is not None:
        why = refusal(inner)
        return why and f"{why} inside IPv6"
    return _refusal_v6(address)


def is_public(ip: str | IPAddress) -> bool:
    """Whether this address may be connected to by a run that fetches from the public internet."""
    return refusal(ip) is None


def _inner_ipv4(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _refusal_v6(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "link-local"
    why = next((why for net, why in _REFUSED_V6 if address in net), None)
    return why or (None if address in _GLOBAL_UNICAST else "reserved")
