"""httpx over aiohttp: one request asked for is one request sent, to the URL as it is written.

What aiohttp and httpx would do by themselves, and must not:

1. repeat a GET when a connection drops: it would not be counted (`_retry_connection`);
2. rewrite a legal URL: the target goes out byte for byte;
3. connect to a literal without asking the resolver, which judges addresses (`connections`);
4. hand out an idle connection on which something arrived unasked: the answer to another row;
5. follow redirects, keep cookies, decompress, read passwords from .netrc; proxies are `proxies`'.

Errors are httpx's, or of `failures`; `__cause__` is kept.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from http.cookiejar import CookieJar
from typing import Any

import aiohttp
import httpx
from aiohttp.connector import Connection
from yarl import URL

from distributed_downloader.settings import Settings
from distributed_downloader.wire.connections import GuardedConnector, WireSettings, tls_context
from distributed_downloader.wire.failures import NO_PASSWORD, mapped, of_proxy

LONGEST_HEADER = 16_384  # bytes of one header
MOST_HEADERS = 128
READ_BUFFER = 2**18  # bytes: a photo in one or two wake-ups

_leaving: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("leaving", default=None)
_TARGET = re.compile(rb"/[\x21-\x7e]*")  # no space, no line end: it goes into the request line


class NoCookies(CookieJar):
    """Keeps and sends nothing: a row must not depend on which row was fetched before it."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Ignore what the server sets."""

    def add_cookie_header(self, request: Any) -> None:
        """Send none."""


def client_of(
    settings: Settings, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """The one client of a rank: made, used and closed in one event loop."""
    return httpx.AsyncClient(
        transport=transport or AiohttpTransport(WireSettings.of(settings)),
        headers={"Accept": "*/*", "Accept-Encoding": "identity", **settings.header},
        timeout=httpx.Timeout(None, connect=settings.timeouts.connect_s),
        follow_redirects=False,
        trust_env=False,
        cookies=NoCookies(),
    )


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends what httpx asks for over aiohttp's connections.

    A request's extension `target` (bytes) goes out instead of the path that httpx would write;
    `leave` (a coroutine function without arguments) is awaited once its connection stands: it goes
    out when that returns, and not at all if it raises.
    """

    def __init__(self, settings: WireSettings | None = None) -> None:
        self._settings = settings or WireSettings()
        tls_context(self._settings.extra_ca)  # made before anything is asked
        self._opened: tuple[aiohttp.ClientSession, GuardedConnector] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request, one answer, its body not read yet."""
        session, connector = self._open()
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in request.headers.raw]
        leaving = _leaving.set(request.extensions.get("leave"))
        host, port = request.url.raw_host.decode("ascii"), _port(request.url)
        proxy = self._settings.proxies.of(request.url.scheme, host, port)
        try:
            if proxy is not None:
                await connector.judge(host, port)
            answer = await session.request(
                request.method,
                _exact_url(request),
                headers=headers,
                data=await request.aread() or None,
                proxy=proxy,
                allow_redirects=False,
                timeout=self._timeout(request),
                ssl=not self._settings.accepts_any_certificate(_server(request.url)),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            connector.distrust(host, port)
            raise mapped(error, request) from error
        finally:
            _leaving.reset(leaving)
        if proxy is not None and answer.status == NO_PASSWORD:
            answer.close()
            raise of_proxy(answer.status, request)
        return _Answer(
            answer.status, headers=list(answer.raw_headers), stream=_Body(answer, request)
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._opened is not None:
            session, connector = self._opened
            await session.close()
            await connector.resolver.close()

    def _open(self) -> tuple[aiohttp.ClientSession, GuardedConnector]:
        if self._opened is None:  # aiohttp's objects belong to a running loop
            connector = GuardedConnector(self._settings)
            session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                read_bufsize=READ_BUFFER,
                max_line_size=LONGEST_HEADER,
                max_field_size=LONGEST_HEADER,
                max_headers=MOST_HEADERS,
                request_class=_Request,
            )
            session._retry_connection = False
            self._opened = session, connector
        return self._opened

    def _timeout(self, request: httpx.Request) -> aiohttp.ClientTimeout:
        asked = request.extensions.get("timeout", {})
        connect_s = asked.get("connect") or self._settings.connect_s
        return aiohttp.ClientTimeout(sock_connect=connect_s, sock_read=asked.get("read"))


class _Request(aiohttp.ClientRequest):
    """Leaves when it is told to, once its connection stands."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        leave = _leaving.get()
        if leave is not None:
            await leave()
        return await super().send(conn)


class _Answer(httpx.Response):
    @property
    def has_redirect_location(self) -> bool:
        """Never: httpx would make a request of it, and raise for a Location it cannot read."""
        return False


class _Body(httpx.AsyncByteStream):
    """The bytes as they come. Closing it before the end closes the connection."""

    def __init__(self, answer: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._answer.content.readany():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise mapped(error, self._request) from error

    async def aclose(self) -> None:
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _server(url: httpx.URL) -> str:
    """As rows have it: `host`, or `host:port` when the port is not the scheme's own."""
    return url.netloc.decode("ascii")


def _exact_url(request: httpx.Request) -> URL:
    """The URL with its target as one piece, so that yarl finds nothing to rewrite."""
    url = request.url
    target: bytes = request.extensions.get("target") or url.raw_path
    if not _TARGET.fullmatch(target):
        raise httpx.LocalProtocolError(f"not a request target: {target[:200]!r}", request=request)
    host = url.raw_host.decode("ascii")
    return URL.build(
        scheme=url.scheme,
        authority=f"[{host}]:{_port(url)}" if ":" in host else f"{host}:{_port(url)}",
        path=target.decode("ascii"),
        encoded=True,
    )
