import asyncio

import httpx
import pytest

from distributed_downloader.records import ErrorClass, Fetched, Outcome, Redirected
from distributed_downloader.wire.fetching import fetch
from tests import wire_server as wire
from tests.unit.wire.attempts import JPEG, FakeGate, attempt, limits


def test_the_deadline_holds_over_all_hops() -> None:
    async def script(exchange: wire.Exchange) -> bool:
        await asyncio.sleep(0.2)
        await exchange.write(wire.reply(302, location=f"/{len(exchange.server.requests)}"))
        return True

    seen = attempt(script, total_s=0.5)
    assert seen.failed.error_class is ErrorClass.TIMEOUT
    assert len(seen.server.requests) <= 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_through_the_gate(status: int) -> None:
    seen = attempt(wire.redirects_to("/2?x=%2F", "3.jpg", status=status), target="/dir/1")
    assert seen.fetched.body == b"image"
    assert seen.fetched.final_url == seen.server.url("/3.jpg")
    assert seen.server.targets == ["/dir/1", "/2?x=%2F", "/3.jpg"]
    assert seen.gate.admitted == [seen.server.url(target) for target in seen.server.targets]
    assert [answer.status for _, answer in seen.gate.answers] == [status, status, 200]


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("/b%2Fc?d=%20e", "/b%2Fc?d=%20e"),
        ("?page=2", "/dir/a?page=2"),
        ("../up.jpg", "/up.jpg"),
        ("  /spaces.jpg ", "/spaces.jpg"),
        ("/caf\u00e9 1.jpg", "/caf%C3%A9%201.jpg"),
        ("/a#part", "/a"),
    ],
)
def test_locations_in_many_shapes(location: str, asked: str) -> None:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"

    async def script(exchange: wire.Exchange) -> bool:
        first = len(exchange.server.requests) == 1
        await exchange.write(head.encode() if first else wire.reply(200, JPEG))
        return True

    seen = attempt(script, target="/dir/a")
    assert seen.fetched.body == JPEG
    assert seen.server.targets == ["/dir/a", asked]


@pytest.mark.parametrize(
    "location",
    ["ftp://h.example/a", "javascript:alert(1)", "http://[1::/", "mailto:a@b"],
)
def test_redirects_to_nowhere(location: str) -> None:
    seen = attempt(wire.redirects_to(location))
    assert (seen.failed.error_class, seen.failed.error_code) == (ErrorClass.REDIRECT_INVALID, 302)
    assert not seen.failed.retryable
    assert repr(location) in seen.failed.error_msg


def test_a_redirect_without_location() -> None:
    seen = attempt(wire.answers(wire.reply(302)))
    assert seen.failed.error_class is ErrorClass.REDIRECT_INVALID


@pytest.mark.parametrize("locations", [("/a.jpg",), ("/2", "/a.jpg"), ("/2", "/3", "/2")])
def test_a_loop_of_redirects_ends(locations: tuple[str, ...]) -> None:
    seen = attempt(wire.redirects_to(*locations))
    assert seen.failed.error_class is ErrorClass.REDIRECT_LOOP
    assert len(seen.server.requests) == len(locations)


def test_at_most_five_hops_are_followed() -> None:
    seen = attempt(wire.redirects_to(*(f"/{n}" for n in range(20))))
    assert seen.failed.error_class is ErrorClass.REDIRECT_LOOP
    assert "too many" in seen.failed.error_msg
    assert len(seen.server.requests) == 6


@pytest.mark.parametrize("schemes", [("http", "https"), ("https", "http")])
def test_a_redirect_may_change_the_scheme(schemes: tuple[str, str]) -> None:
    first, second = (f"{scheme}://img.example/a.jpg" for scheme in schemes)

    def handle(request: httpx.Request) -> httpx.Response:
        if str(request.url) == first:
            return httpx.Response(301, headers={"location": second})
        return httpx.Response(200, content=JPEG)

    async def main() -> Outcome:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as client:
            return await fetch(client, first, limits=limits(), gate=FakeGate())

    outcome = asyncio.run(main())
    assert isinstance(outcome, Fetched)
    assert outcome.final_url == second


def test_a_target_of_another_rank_is_handed_back() -> None:
    gate = FakeGate(stops={"elsewhere": Redirected("http://elsewhere.example/b")})
    seen = attempt(wire.redirects_to("http://elsewhere.example/b"), gate=gate)
    assert seen.outcome == Redirected("http://elsewhere.example/b")
    assert [answer.status for _, answer in gate.answers] == [302]
