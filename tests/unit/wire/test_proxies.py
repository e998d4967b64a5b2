"""Requests that go through a proxy, seen by the proxy; targets are judged all the same."""

import asyncio

import httpx
import pytest
from yarl import URL

from distributed_downloader.errors import ConfigError
from distributed_downloader.wire.connections import WireSettings
from distributed_downloader.wire.failures import NoContactError, PrivateAddressError, ProxyError
from distributed_downloader.wire.proxies import DIRECT, Proxies, proxies_of
from distributed_downloader.wire.resolving import NameSettings
from distributed_downloader.wire.transport import AiohttpTransport, NoCookies
from tests import wire_server as wire
from tests.forward_proxy import ForwardProxy, forwarding

SITE = "http://proxy.site:3128"


def lookup(name: str) -> list[str]:
    known = {"inside.example": ["10.1.2.3"], "outside.example": ["93.184.216.34"]}
    if name in known:
        return known[name]
    raise OSError(f"no DNS on this node: {name}")


def client_through(proxy: ForwardProxy, **names: bool) -> httpx.AsyncClient:
    url = URL(proxy.url)
    settings = WireSettings(
        names=NameSettings(lookup=lookup, **names),
        proxies=Proxies({"http": url, "https": url}),
        accepts_any_certificate=lambda _: True,
    )
    return httpx.AsyncClient(
        transport=AiohttpTransport(settings), cookies=NoCookies(), trust_env=False, timeout=None
    )


async def hello(exchange: wire.Exchange) -> bool:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    return True


@pytest.mark.parametrize("tls", [False, True], ids=["forwarded", "tunnelled"])
def test_a_name_that_only_the_proxy_knows_is_asked_for_through_it(tls):
    async def main() -> None:
        proxy = ForwardProxy(addresses={"far.example": "127.0.0.1"})
        async with (
            wire.serve(hello, tls=tls) as server,
            forwarding(proxy),
            client_through(proxy) as client,
        ):
            url = server.url("/a%2Fb?c=%7E", host="far.example")
            answer = await client.get(url, headers={"User-Agent": "me"})
            assert answer.content == b"hello"
            assert server.targets == ["/a%2Fb?c=%7E"]
            assert server.requests[0].headers["host"] == f"far.example:{server.port}"
            asked = f"CONNECT far.example:{server.port}" if tls else f"GET {url}"
            assert proxy.asked == [asked]

    asyncio.run(main())


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "169.254.169.254", "[::1]", "2130706433", "inside.example"]
)
def test_what_is_known_to_be_private_is_not_asked_of_the_proxy_either(scheme, host):
    async def main() -> None:
        async with forwarding(ForwardProxy()) as proxy, client_through(proxy) as client:
            with pytest.raises(PrivateAddressError):
                await client.get(f"{scheme}://{host}/")
            assert proxy.asked == []

    asyncio.run(main())


def test_who_names_no_contact_asks_for_nothing_that_may_be_public():
    async def main() -> None:
        async with forwarding(ForwardProxy()) as proxy:
            for host in ("unknown.example", "outside.example"):
                async with client_through(proxy, allow_public=False) as client:
                    with pytest.raises(NoContactError):
                        await client.get(f"http://{host}/")
            assert proxy.asked == []

    asyncio.run(main())


def test_the_proxy_s_own_address_is_no_target():
    async def main() -> None:
        async with forwarding(ForwardProxy()) as proxy, client_through(proxy) as client:
            with pytest.raises(PrivateAddressError):
                await client.get(proxy.url)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("scheme", "status", "error"),
    [
        ("http", 407, ProxyError),  # no server is to blame for a missing password
        ("https", 407, ProxyError),
        ("https", 502, httpx.ConnectError),
    ],
)
def test_what_the_proxy_refuses_is_told_apart(scheme, status, error):
    async def main() -> None:
        proxy = ForwardProxy(refuses_with=status)
        async with forwarding(proxy), client_through(proxy) as client:
            with pytest.raises(error, match=f"the proxy answered {status}") as caught:
                await client.get(f"{scheme}://far.example/")
            assert type(caught.value) is error

    asyncio.run(main())


def test_a_proxy_that_is_not_there_is_no_server_s_fault():
    async def main() -> None:
        async with forwarding(ForwardProxy()) as proxy:
            pass
        async with client_through(proxy) as client:
            with pytest.raises(ProxyError):
                await client.get("http://far.example/")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("setting", "environ", "http", "https"),
    [
        ("", {}, None, None),
        ("", {"HTTPS_PROXY": SITE}, None, SITE),
        ("", {"HTTP_PROXY": SITE, "https_proxy": "proxy.site:3128"}, SITE, SITE),
        ("", {"HTTP_PROXY": "http://big:1", "http_proxy": SITE}, SITE, None),
        ("proxy.site:3128", {"HTTPS_PROXY": "http://other:1"}, SITE, SITE),
        ("none", {"HTTPS_PROXY": SITE, "HTTP_PROXY": SITE}, None, None),
    ],
)
def test_the_config_goes_before_the_environment(setting, environ, http, https):
    proxies = proxies_of(setting, environ)
    for scheme, expected in (("http", http), ("https", https)):
        proxy = proxies.of(scheme, "a.example", 80)
        assert proxy == (expected and URL(expected))


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "direct"),
    [
        ("example.org", "example.org", 80, True),
        ("example.org", "a.example.org", 80, True),
        (".example.org,other", "a.example.org", 80, True),
        ("*.example.org", "a.EXAMPLE.org", 80, True),
        ("example.org", "notexample.org", 80, False),
        ("example.org:8080", "example.org", 8080, True),
        ("example.org:8080", "example.org", 80, False),
        ("*", "anything.example", 80, True),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("::1", "::1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("fd00::/8", "10.1.2.3", 80, False),
        ("", "a.example", 80, False),
    ],
)
def test_no_proxy_lists_what_is_asked_directly(no_proxy, host, port, direct):
    proxies = proxies_of(SITE, {"NO_PROXY": no_proxy})
    assert (proxies.of("http", host, port) is None) is direct


@pytest.mark.parametrize("said", ["socks5://proxy:1080", "https://proxy:443", "http://"])
def test_another_kind_of_proxy_is_refused_and_no_password_is_shown(said):
    with pytest.raises(ConfigError, match=r"HTTPS_PROXY is .*: allowed is an HTTP proxy"):
        proxies_of("", {"HTTPS_PROXY": said})
    with pytest.raises(ConfigError) as caught:
        proxies_of("", {"HTTPS_PROXY": "socks5://me:secret@proxy:1080"})
    assert "secret" not in str(caught.value)


def test_a_name_and_password_for_the_proxy_go_to_the_proxy_alone():
    async def main() -> None:
        proxy = ForwardProxy(addresses={"far.example": "127.0.0.1"})
        async with wire.serve(hello) as server, forwarding(proxy):
            url = URL(proxy.url).with_user("me").with_password("secret")
            settings = WireSettings(
                proxies=Proxies({"http": url}), names=NameSettings(lookup=lookup)
            )
            async with httpx.AsyncClient(transport=AiohttpTransport(settings)) as client:
                await client.get(server.url(host="far.example"))
            assert b"Proxy-Authorization: Basic" in proxy.heads[0]

    asyncio.run(main())


def test_without_proxies_everything_is_asked_directly():
    assert DIRECT.of("https", "a.example", 443) is None
