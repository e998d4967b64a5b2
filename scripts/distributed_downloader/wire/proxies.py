"""Through which HTTP proxy a request goes, if through any.

1. `proxy` in the config goes before HTTP_PROXY and HTTPS_PROXY; `none` is no proxy at all. In small
   letters these variables go before those in capitals, as everywhere.
2. NO_PROXY (or no_proxy) lists what is asked without one: hosts, domains with all below them,
   addresses, networks as 10.0.0.0/8, any of them with `:port`; `*` is everything.
3. Only http:// proxies: they forward http, and tunnel https (CONNECT, RFC 9110, 9.3.6).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from yarl import URL

from distributed_downloader.errors import ConfigError
from distributed_downloader.urls.addresses import literal

NONE = "none"
DEFAULT_PORT = 80


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies of a run; without any, everything is asked directly."""

    by_scheme: Mapping[str, URL]
    exempt: tuple[str, ...] = ()  # as NO_PROXY lists them, in small letters

    def of(self, scheme: str, host: str, port: int) -> URL | None:
        """The proxy for this server, or None to ask it directly."""
        proxy = self.by_scheme.get(scheme)
        if proxy is None or any(_names(entry, host.lower(), port) for entry in self.exempt):
            return None
        return proxy


DIRECT = Proxies({})


def proxies_of(setting: str, environ: Mapping[str, str] = os.environ) -> Proxies:
    """What the config's `proxy` and the environment say. Raises ConfigError."""
    if setting == NONE:
        return DIRECT
    said = {
        scheme: ("proxy", setting) if setting else _variable(f"{scheme}_proxy", environ)
        for scheme in ("http", "https")
    }
    by_scheme = {scheme: _url(name, text) for scheme, (name, text) in said.items() if text}
    _, exempt = _variable("no_proxy", environ)
    return Proxies(by_scheme, tuple(exempt.lower().replace(",", " ").split()))


def _variable(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Its name as it is spelled there, and its value; empty if there is none."""
    for spelled in (name, name.upper()):
        if value := environ.get(spelled, "").strip():
            return spelled, value
    return name, ""


def _url(name: str, text: str) -> URL:
    try:
        url = URL(text if "://" in text else f"http://{text}")
        if url.scheme == "http" and url.host and url.port:
            return url
    except ValueError:
        pass
    shown = text.rpartition("@")[2]  # never the password
    raise ConfigError(f"{name} is {shown}: allowed is an HTTP proxy, as http://host:port.")


def _names(entry: str, host: str, port: int) -> bool:
    """Whether this entry of NO_PROXY names the server."""
    name, _, said_port = entry.rpartition(":")
    if said_port.isdecimal() and name and (":" not in name or name.endswith("]")):
        if int(said_port) != port:
            return False
        entry = name
    address = literal(host)
    if entry == "*":
        return True
    if address is not None:
        return _holds(entry.strip("[]"), str(address))
    domain = entry.removeprefix("*").removeprefix(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _holds(network: str, address: str) -> bool:
    try:
        return ip_network(address).subnet_of(ip_network(network, strict=False))  # type: ignore[arg-type]
    except (ValueError, TypeError):  # a name; IPv4 in a network of IPv6
        return False
