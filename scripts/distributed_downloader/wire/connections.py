"""aiohttp's connections, to checked addresses only, and reused only while beyond doubt."""

import resource
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from socket import socket
from typing import Any

import aiohttp
import certifi
from aiohttp.abc import ResolveResult
from aiohttp.client_proto import ResponseHandler

from distributed_downloader.configuration.identity import names_a_contact
from distributed_downloader.courtesy.budgets import rules_of
from distributed_downloader.courtesy.groups import read_book
from distributed_downloader.settings import Settings
from distributed_downloader.wire.proxies import DIRECT, Proxies, proxies_of
from distributed_downloader.wire.resolving import (
    AnonymousError,
    NameSettings,
    RefusedAddressError,
    Resolver,
    error_of,
)

_to_proxy: ContextVar[bool] = ContextVar("to_proxy", default=False)  # what is connected to now

NO_DNS_S = 3600.0  # how long a name that does not resolve is not looked up again, behind a proxy
KEEP_ALIVE_S = 4.5  # under the 5 s after which many servers close: a race that costs a try


MOST_FILES = 16_384
OTHER_FILES = 256  # open files of ours that are no connections


def most_connections() -> int:
    """How many connections this process has room for; raises its soft limit of open files.

    Who waits for a connection loses time of the row's deadline, so there must be enough for all
    that the gate lets pass, and no more than the system gives: that would look like dead servers.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(wanted - OTHER_FILES, wanted // 2)


def no_server(server: str) -> bool:  # noqa: ARG001
    """For no server at all."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class WireSettings:
    """How connections are made."""

    names: NameSettings = field(default_factory=NameSettings)
    connect_s: float = 10.0  # TCP and TLS
    connections: int | None = None  # at once; None: as many as this process may have files open
    extra_ca: str | None = None  # PEM file of certificates to accept besides the usual ones
    accepts_any_certificate: Callable[[str], bool] = no_server  # of `host` or `host:port`
    proxies: Proxies = DIRECT

    @classmethod
    def of(cls, settings: Settings) -> "WireSettings":
        """What the run's settings say about connections, and the environment about proxies."""
        proxies = proxies_of(settings.proxy)
        politeness = settings.politeness
        goes_by_address = politeness.group_by == "address"
        names = NameSettings(
            hosts=settings.hosts,
            pinned=read_book(politeness.address_book) if goes_by_address else {},
            allow_private=politeness.allow_private_addresses,
            allow_public=names_a_contact(settings),
            wait_s=settings.timeouts.connect_s,
        )
        if proxies.by_scheme:  # a node without internet may have no DNS: asked once, for the wave
            names = replace(names, remember_failure_s=NO_DNS_S)

        @lru_cache(maxsize=10_000)
        def accepts_any_certificate(server: str) -> bool:
            return not rules_of(server, settings).verify_tls

        return cls(
            names=names,
            connect_s=settings.timeouts.connect_s,
            accepts_any_certificate=accepts_any_certificate,
            proxies=proxies,
        )


class _Protocol(ResponseHandler):
    """One connection. Broken framing in the middle of a body ends the body, too.

    aiohttp tells only who waits for the next head; the reader of the body would wait for ever.
    """

    def set_exception(self, exc: Any, exc_cause: Any = None) -> None:
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            broken = aiohttp.ClientPayloadError(str(exc))
            broken.__cause__ = exc
            body.set_exception(broken, exc)
        super().set_exception(exc, exc_cause or exc)


class GuardedConnector(aiohttp.TCPConnector):
    """Every address, of a literal too, is judged; every idle connection is looked at again."""

    def __init__(self, settings: WireSettings) -> None:
        self.resolver = Resolver(settings.names)
        self._names = settings.names
        super().__init__(
            resolver=self.resolver,
            use_dns_cache=False,
            ssl=tls_context(settings.extra_ca),
            limit=settings.connections or most_connections(),
            keepalive_timeout=KEEP_ALIVE_S,
            socket_factory=self._socket,
        )
        self._factory = partial(_Protocol, loop=self._loop)  # type: ignore[assignment]

    def distrust(self, host: str, port: int) -> None:
        """Close the idle connections to this host: one of them was dead, the rest may be too."""
        for key, idle in self._conns.items():
            if (key.host, key.port) == (host, port):
                for protocol, _ in idle:
                    protocol.close()

    async def judge(self, host: str, port: int) -> None:
        """Judge a target that a proxy is to connect to, as far as that can be done from here.

        A literal, and a name that resolves here, may be refused (OSError). What does not resolve
        here only the proxy can judge; but who names no contact asks nothing unknown.
        """
        try:
            await self.resolver.resolve(host, port)
        except (RefusedAddressError, AnonymousError):
            raise
        except OSError:
            if not self._names.allow_public:
                raise AnonymousError(f"{host} does not resolve here, and may be public") from None

    async def _create_proxy_connection(self, *args: Any, **kwargs: Any) -> Any:
        """The proxy itself may be at any address: it is the user who names it."""
        token = _to_proxy.set(True)
        try:
            return await super()._create_proxy_connection(*args, **kwargs)
        finally:
            _to_proxy.reset(token)

    async def _get(self, key: Any, traces: Any) -> Any:
        idle = self._conns.get(key)
        if idle:
            self._conns[key] = deque(pair for pair in idle if _is_beyond_doubt(pair[0]))
        return await super()._get(key, traces)

    async def _resolve_host(
        self,
        host: str,
        port: int,
        traces: Sequence[Any] | None = None,  # noqa: ARG002
    ) -> list[ResolveResult]:
        # aiohttp does not ask the resolver about literals, nor about what looks like one.
        return await self.resolver.resolve(host, port, is_trusted=_to_proxy.get())

    def _socket(self, address_info: Any) -> socket:
        family, kind, protocol, _, address = address_info
        error = None if _to_proxy.get() else error_of("the host", str(address[0]), self._names)
        if error is not None:  # the resolver has judged already; this is what is connected to
            raise error
        return socket(family=family, type=kind, proto=protocol)


def _is_beyond_doubt(protocol: ResponseHandler) -> bool:
    """False, and closed, if anything came while it was idle: it would answer the next request."""
    if protocol.should_close:
        protocol.close()
        return False
    return True


@cache  # a fifth of a second, in which no other request would go out
def tls_context(extra_ca: str | None) -> ssl.SSLContext:
    """Which certificates are accepted: those that certifi lists, the system's, and `extra_ca`."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())  # a bare machine has none of its own
    if extra_ca is not None:
        context.load_verify_locations(extra_ca)
    context.set_alpn_protocols(["http/1.1"])
    return context
