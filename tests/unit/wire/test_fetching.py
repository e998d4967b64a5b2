import asyncio
import gzip
import tracemalloc
import zlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from distributed_downloader.records import (
    CONTENT_CODE,
    NETWORK_CODE,
    ErrorClass,
    Failed,
    Fetched,
    Known,
    Outcome,
    Redirected,
)
from distributed_downloader.wire.connections import WireSettings
from distributed_downloader.wire.failures import ExhaustedError
from distributed_downloader.wire.fetching import (
    Answer,
    FetchLimits,
    exact_target,
    fetch,
)
from distributed_downloader.wire.outcomes import classify_status
from distributed_downloader.wire.reading import unpacked
from distributed_downloader.wire.resolving import NameSettings
from distributed_downloader.wire.room import FIRST_BYTES, Place, Room
from distributed_downloader.wire.transport import AiohttpTransport, NoCookies
from tests import wire_server as wire

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40


def limits(**over: Any) -> FetchLimits:
    defaults: dict[str, Any] = {"total_s": 5.0, "min_bytes_per_s": 0.0, "max_bytes": 1_000_000}
    return FetchLimits(**{**defaults, **over})


@dataclass
class FakeGate:
    """Lets everything pass, or what `stops` says; `verdicts` are given after an answer, by URL."""

    stops: dict[str, Outcome] = field(default_factory=dict)
    verdicts: dict[str, Failed] = field(default_factory=dict)
    wait_s: float = 0.0
    held_s: float = 0.0  # once the connection stands
    held_back: dict[str, Failed] = field(default_factory=dict)
    cut_off: bool = False
    admitted: list[str] = field(default_factory=list)
    went_out: list[str] = field(default_factory=list)
    answers: list[tuple[str, Answer]] = field(default_factory=list)

    async def admit(self, url: str) -> Outcome | None:
        await asyncio.sleep(self.wait_s)
        stopped = next((out for part, out in self.stops.items() if part in url), None)
        if stopped is None:
            self.admitted.append(url)
        return stopped

    async def leave(self, url: str) -> Failed | None:
        await asyncio.sleep(self.held_s)
        held_back = next((out for part, out in self.held_back.items() if part in url), None)
        if held_back is None:
            self.went_out.append(url)
        return held_back

    async def is_cut_off(self, began: float) -> bool:
        assert began <= asyncio.get_running_loop().time()
        return self.cut_off

    def heard(self, url: str, answer: Answer) -> Failed | None:
        self.answers.append((url, answer))
        return next((out for part, out in self.verdicts.items() if part in url), None)

    @property
    def answer(self) -> Answer:
        ((_, answer),) = self.answers
        return answer


def wire_client(**names: Any) -> httpx.AsyncClient:
    names.setdefault("allow_private", True)
    names.setdefault("lookup", lambda _: [])
    settings = WireSettings(names=NameSettings(**names), connect_s=2.0)
    return httpx.AsyncClient(
        transport=AiohttpTransport(settings), trust_env=False, cookies=NoCookies(), timeout=None
    )


@dataclass
class Seen:
    """What one attempt came to, from both ends of the wire."""

    outcome: Outcome
    gate: FakeGate
    server: wire.WireServer

    @property
    def failed(self) -> Failed:
        assert isinstance(self.outcome, Failed), self.outcome
        return self.outcome

    @property
    def fetched(self) -> Fetched:
        assert isinstance(self.outcome, Fetched), self.outcome
        return self.outcome


def attempt(
    script: wire.Script,
    *,
    target: str = "/a.jpg",
    gate: FakeGate | None = None,
    tls: bool = False,
    **over: Any,
) -> Seen:
    """One `fetch` from a wire server; every connection must have ended when the client closes."""
    gate = gate or FakeGate()

    async def main() -> Seen:
        async with wire.serve(script, tls=tls) as server, asyncio.timeout(20):
            async with wire_client() as client:
                url = server.url(target)
                outcome = await fetch(client, url, limits=limits(**over), gate=gate)
            await server.all_ended()
            return Seen(outcome, gate, server)

    return asyncio.run(main())


def mocked(answer: httpx.Response | Exception, url: str = "http://img.example/a.jpg") -> Outcome:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main() -> Outcome:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as client:
            return await fetch(client, url, limits=limits(), gate=FakeGate())

    return asyncio.run(main())


def test_a_whole_image() -> None:
    headers = {"content_type": "image/jpeg", "etag": '"1"', "last_modified": "yesterday"}
    seen = attempt(wire.answers(wire.reply(200, JPEG, **headers)))
    fetched = seen.fetched
    assert fetched.body == JPEG
    assert (fetched.status, fetched.final_url) == (200, seen.server.url("/a.jpg"))
    assert (fetched.content_type, fetched.etag) == ("image/jpeg", '"1"')
    assert fetched.last_modified == "yesterday"
    assert 0 < fetched.latency_s < 5
    assert seen.server.targets == ["/a.jpg"]
    assert seen.gate.answer.status == 200
    assert seen.gate.answer.nbytes == len(JPEG)
    assert seen.gate.answer.headers["Content-Type"] == "image/jpeg"
    assert seen.gate.answer.error_class is None


def test_a_mocked_client_will_do() -> None:
    outcome = mocked(httpx.Response(200, content=JPEG, headers={"content-type": "image/png"}))
    assert isinstance(outcome, Fetched)
    assert (outcome.body, outcome.content_type) == (JPEG, "image/png")


STATUSES = [
    (204, ErrorClass.HTTP_OTHER, False),
    (206, ErrorClass.HTTP_OTHER, False),
    (300, ErrorClass.HTTP_OTHER, False),
    (304, ErrorClass.HTTP_OTHER, False),
    (400, ErrorClass.HTTP_OTHER, False),
    (401, ErrorClass.FORBIDDEN, False),
    (403, ErrorClass.FORBIDDEN, False),
    (404, ErrorClass.NOT_FOUND, False),
    (408, ErrorClass.HTTP_OTHER, True),
    (410, ErrorClass.NOT_FOUND, False),
    (418, ErrorClass.HTTP_OTHER, False),
    (425, ErrorClass.HTTP_OTHER, True),
    (429, ErrorClass.RATE_LIMITED, True),
    (451, ErrorClass.FORBIDDEN, False),
    (500, ErrorClass.SERVER_ERROR, True),
    (503, ErrorClass.SERVER_ERROR, True),
    (530, ErrorClass.SERVER_ERROR, True),
    (999, ErrorClass.HTTP_OTHER, False),
]


@pytest.mark.parametrize(("status", "error_class", "retryable"), STATUSES)
def test_statuses(status: int, error_class: ErrorClass, retryable: bool) -> None:
    assert classify_status(status) == (error_class, retryable)


@pytest.mark.parametrize(
    ("status", "error_class", "retryable"),
    [row for row in STATUSES if row[0] in {206, 404, 429, 503, 999}],
)
def test_a_status_is_the_error_code(status: int, error_class: ErrorClass, retryable: bool) -> None:
    seen = attempt(wire.answers(wire.reply(status, b"sorry", retry_after="9")))
    failed = seen.failed
    assert (failed.error_class, failed.error_code) == (error_class, status)
    assert failed.retryable is retryable
    assert str(status) in failed.error_msg
    assert failed.final_url == seen.server.url("/a.jpg")
    assert len(seen.server.requests) == 1
    assert seen.gate.answer.headers["retry-after"] == "9"
    assert seen.gate.answer.error_class is error_class


def test_small_error_pages_are_read_so_that_the_connection_serves_again() -> None:
    gate = FakeGate()

    async def main() -> int:
        async with wire.serve(wire.answers(wire.reply(404, b"gone" * 99))) as server:
            async with wire_client() as client:
                for _ in range(3):
                    await fetch(client, server.url(), limits=limits(), gate=gate)
            return server.connections

    assert asyncio.run(main()) == 1


def test_a_dripping_error_page_is_not_waited_for() -> None:
    seen = attempt(wire.drips(wire.reply(404, content_length="1000000")), total_s=15.0)
    assert seen.failed.error_class is ErrorClass.NOT_FOUND


GARBAGE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


@pytest.mark.parametrize(
    ("script", "error_class"),
    [
        (wire.then_closes(b""), ErrorClass.RESET),
        (wire.then_resets(b""), ErrorClass.RESET),
        (wire.then_resets(b"HTTP/1.1 200 OK\r\nContent-Le"), ErrorClass.RESET),
        (wire.then_resets(wire.reply(200, JPEG, content_length="99999")), ErrorClass.RESET),
        (wire.then_closes(wire.reply(200, JPEG, content_length="99999")), ErrorClass.RESET),
        (wire.then_closes(GARBAGE + b"5\r\nab"), ErrorClass.RESET),
        (wire.then_closes(GARBAGE + b"zz\r\n"), ErrorClass.PROTOCOL),
        (wire.in_pieces(GARBAGE, b"zz\r\n"), ErrorClass.PROTOCOL),
        (wire.then_closes(b"SSH-2.0-OpenSSH_9\r\n"), ErrorClass.PROTOCOL),
        (
            wire.then_closes(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 99_999 + b"\r\n\r\n"),
            ErrorClass.PROTOCOL,
        ),
        (
            wire.then_closes(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 999 + b"\r\n"),
            ErrorClass.PROTOCOL,
        ),
        (wire.goes_silent(), ErrorClass.TIMEOUT),
        (wire.goes_silent(b"HTTP/1.1 200 OK\r\nContent-Le"), ErrorClass.TIMEOUT),
        (wire.goes_silent(wire.reply(200, content_length="9")), ErrorClass.TIMEOUT),
        (wire.drips(b"HTTP/1.1 200 OK\r\nX: "), ErrorClass.TIMEOUT),
        (wire.drips(b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + b"HTTP/1.1 2"), ErrorClass.PROTOCOL),
    ],
)
def test_broken_connections_are_retryable_and_asked_once(
    script: wire.Script, error_class: ErrorClass
) -> None:
    seen = attempt(script, total_s=0.5 if error_class is ErrorClass.TIMEOUT else 10.0)
    failed = seen.failed
    assert (failed.error_class, failed.error_code) == (error_class, NETWORK_CODE)
    assert failed.retryable
    assert failed.costs_a_try
    assert "\n" not in failed.error_msg
    assert len(seen.server.requests) == 1
    assert seen.gate.answer.error_class is error_class


def test_extra_bytes_after_the_announced_body_are_not_stored_nor_reused() -> None:
    seen = attempt(wire.in_pieces(wire.reply(200, JPEG), b"EXTRA"))
    assert seen.fetched.body == JPEG


def test_a_body_that_drips_under_the_least_speed_is_too_slow() -> None:
    head = wire.reply(200, content_length="1000000")
    seen = attempt(wire.drips(head), min_bytes_per_s=10_000.0, window_s=0.2)
    assert seen.failed.error_class is ErrorClass.TOO_SLOW
    assert seen.failed.retryable
    assert seen.gate.answer.nbytes > 0


def test_a_body_that_stalls_after_a_fast_start_is_too_slow() -> None:
    head = wire.reply(200, JPEG, content_length="1000000")
    seen = attempt(wire.goes_silent(head), min_bytes_per_s=10_000.0, window_s=0.2)
    assert seen.failed.error_class is ErrorClass.TOO_SLOW


def test_a_slow_body_within_the_least_speed_is_read_to_its_end() -> None:
    pieces = [b"x" * 1000] * 8
    head = wire.reply(200, content_length="8000")
    seen = attempt(wire.in_pieces(head, *pieces), min_bytes_per_s=1_000.0, window_s=0.3)
    assert len(seen.fetched.body) == 8000


def test_the_deadline_ends_a_body_that_is_fast_enough() -> None:
    head = wire.reply(200, content_length="1000000")
    seen = attempt(wire.drips(head), min_bytes_per_s=1.0, window_s=0.2, total_s=0.6)
    assert seen.failed.error_class is ErrorClass.TIMEOUT


def test_waiting_in_the_gate_does_not_count_against_the_deadline() -> None:
    seen = attempt(wire.redirects_to("/2", "/3"), gate=FakeGate(wait_s=0.3), total_s=0.5)
    assert seen.fetched.body == b"image"


def test_nor_does_waiting_to_leave_and_it_is_no_latency() -> None:
    seen = attempt(wire.redirects_to("/2", "/3"), gate=FakeGate(held_s=0.3), total_s=0.5)
    assert seen.fetched.body == b"image"
    assert all(answer.latency_s < 0.3 for _, answer in seen.gate.answers)


@pytest.mark.parametrize("head", [b"Content-Length: 300000\r\n", b"Connection: close\r\n"])
def test_large_bodies_wait_for_their_place_and_it_costs_no_deadline(head: bytes) -> None:
    script = wire.then_closes(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + bytes(300_000))
    room, weights = Room(1_000_000), []

    async def one(client: httpx.AsyncClient, url: str) -> Outcome:
        place = Place(room)
        found = await fetch(client, url, limits=limits(total_s=0.5), gate=FakeGate(), place=place)
        weights.append(room.taken)
        await asyncio.sleep(0.3)  # what a codec takes
        place.leave()
        return found

    async def main() -> list[Outcome]:
        async with wire.serve(script) as server, asyncio.timeout(20), wire_client() as client:
            return await asyncio.gather(*(one(client, server.url()) for _ in range(9)))

    outcomes = asyncio.run(main())
    assert all(isinstance(found, Fetched) for found in outcomes)
    assert max(weights) <= FIRST_BYTES
    assert room.taken == 0


@pytest.mark.parametrize(("path", "was_sent"), [("/1", False), ("/2", True)])
def test_one_that_is_held_back_ends_the_attempt_and_says_whether_any_was_sent(
    path: str, was_sent: bool
) -> None:
    stopped = Failed(ErrorClass.INTERNAL, -2, "stopped", True, was_sent=False)
    seen = attempt(wire.redirects_to("/2"), gate=FakeGate(held_back={path: stopped}))
    assert seen.failed == replace(stopped, was_sent=was_sent)
    last = seen.gate.answers[-1][1]
    assert (last.status, last.error_class) == (None, None)  # given up: the slot is free again


def test_the_deadline_holds_over_all_hops() -> None:
    async def script(exchange: wire.Exchange) -> bool:
        await asyncio.sleep(0.2)
        await exchange.write(wire.reply(302, location=f"/{len(exchange.server.requests)}"))
        return True

    seen = attempt(script, total_s=0.5)
    assert seen.failed.error_class is ErrorClass.TIMEOUT
    assert len(seen.server.requests) <= 3


def test_a_body_announced_as_too_large_is_not_read() -> None:
    seen = attempt(wire.goes_silent(wire.reply(200, content_length="1000001")))
    assert (seen.failed.error_class, seen.failed.error_code) == (ErrorClass.TOO_LARGE, CONTENT_CODE)
    assert not seen.failed.retryable
    assert "1000001 bytes announced" in seen.failed.error_msg
    assert seen.gate.answer.nbytes == 0


def test_a_body_without_length_stops_at_the_limit() -> None:
    script = wire.then_closes(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000)
    seen = attempt(script, max_bytes=50_000)
    assert seen.failed.error_class is ErrorClass.TOO_LARGE


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(JPEG)),
        ("x-gzip", gzip.compress(JPEG)),
        ("deflate", zlib.compress(JPEG)),
        ("GZIP", gzip.compress(JPEG)),
        ("gzip", JPEG),  # labelled so and plain: seen in the wild
        ("identity", JPEG),
        ("none", JPEG),
        ("utf-8", JPEG),
    ],
)
def test_compression_that_was_not_asked_for_is_undone(coding: str, packed: bytes) -> None:
    seen = attempt(wire.answers(wire.reply(200, packed, content_encoding=coding)))
    assert seen.fetched.body == JPEG
    assert seen.server.requests[0].headers["accept-encoding"]
    assert seen.gate.answer.nbytes == len(packed)


def test_a_compression_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    seen = attempt(wire.answers(wire.reply(200, bomb, content_encoding="gzip")))
    assert seen.failed.error_class is ErrorClass.TOO_LARGE
    tracemalloc.start()
    try:
        unpacked(bomb, limits(max_bytes=100_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_a_cut_compressed_body_may_be_asked_for_again() -> None:
    packed = gzip.compress(JPEG)[:-20]
    seen = attempt(wire.answers(wire.reply(200, packed, content_encoding="gzip")))
    assert (seen.failed.error_class, seen.failed.retryable) == (ErrorClass.RESET, True)


def test_a_coding_that_we_cannot_undo_is_refused() -> None:
    seen = attempt(wire.answers(wire.reply(200, JPEG, content_encoding="br")))
    assert (seen.failed.error_class, seen.failed.retryable) == (ErrorClass.PROTOCOL, False)


@pytest.mark.parametrize(
    "body", [b"", b"<!DOCTYPE html>" + b"x" * 99, b"\xef\xbb\xbf\n <html>" + b"x" * 200_000]
)
def test_nothing_and_html_are_no_images(body: bytes) -> None:
    seen = attempt(wire.answers(wire.reply(200, body, content_type="text/html; charset=utf-8")))
    failed = seen.failed
    assert (failed.error_class, failed.error_code) == (ErrorClass.NOT_AN_IMAGE, CONTENT_CODE)
    assert not failed.retryable


def test_a_text_of_two_gigabytes_is_read_to_its_limit_and_left() -> None:
    async def script(exchange: wire.Exchange) -> bool:
        await exchange.write(wire.reply(200, content_length="2000000000"))
        with suppress(OSError):
            for _ in range(2000):
                await exchange.write(b"Disallow: /\n" * 80_000)
                written.append(1)
        return False

    written: list[int] = []
    seen = attempt(script, is_text=True, max_bytes=500_000)
    assert len(seen.fetched.body) == 500_000
    assert len(written) < 50  # megabytes


@pytest.mark.parametrize(
    ("content_type", "body"), [("text/html", JPEG), ("image/jpeg", b"<html>"), ("text/plain", JPEG)]
)
def test_a_label_alone_condemns_nothing(content_type: str, body: bytes) -> None:
    seen = attempt(wire.answers(wire.reply(200, body, content_type=content_type)))
    assert seen.fetched.body == body


@pytest.mark.parametrize(
    ("body", "text"), [(b"", b""), (b"<html>", b"<html>"), (b"a" * 5000, b"a" * 1000)]
)
def test_a_text_may_be_anything_and_is_cut_at_its_limit(body: bytes, text: bytes) -> None:
    script = wire.answers(wire.reply(200, body, content_type="text/html"))
    seen = attempt(script, is_text=True, max_bytes=1000)
    assert seen.fetched.body == text


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


def test_the_gate_may_stop_an_attempt_before_any_request() -> None:
    refused = Failed(ErrorClass.ROBOTS_DISALLOWED, CONTENT_CODE, "no", retryable=False)
    seen = attempt(wire.answers(wire.reply(200, JPEG)), gate=FakeGate(stops={"/": refused}))
    assert seen.outcome is refused
    assert seen.server.requests == []
    assert seen.gate.answers == []


def test_a_target_of_another_rank_is_handed_back() -> None:
    gate = FakeGate(stops={"elsewhere": Redirected("http://elsewhere.example/b")})
    seen = attempt(wire.redirects_to("http://elsewhere.example/b"), gate=gate)
    assert seen.outcome == Redirected("http://elsewhere.example/b")
    assert [answer.status for _, answer in gate.answers] == [302]


def test_the_gate_may_refuse_an_answer() -> None:
    no = Failed(ErrorClass.OPTED_OUT, CONTENT_CODE, "x-robots-tag: noai", retryable=False)
    seen = attempt(wire.answers(wire.reply(200, JPEG)), gate=FakeGate(verdicts={"/": no}))
    assert seen.outcome is no


def test_a_name_at_a_private_address_is_not_connected_to() -> None:
    names = {"allow_private": False, "lookup": lambda _: ["127.0.0.1"]}
    gate = FakeGate()

    async def main() -> Outcome:
        async with wire.serve(wire.answers(wire.reply(200, JPEG))) as server:
            async with wire_client(**names) as client:
                url = server.url(host="home.example")
                outcome = await fetch(client, url, limits=limits(), gate=gate)
            assert server.connections == 0
            return outcome

    outcome = asyncio.run(main())
    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.error_code) == (ErrorClass.PRIVATE_ADDRESS, CONTENT_CODE)
    assert not outcome.retryable
    assert gate.answer.error_class is ErrorClass.PRIVATE_ADDRESS


def test_a_public_server_is_not_asked_by_nobody_in_particular() -> None:
    names = {"allow_public": False, "lookup": lambda _: ["192.88.100.1"]}

    async def main() -> Outcome:
        async with wire_client(**names) as client:
            url = "http://museum.example/a.jpg"
            return await fetch(client, url, limits=limits(), gate=FakeGate())

    outcome = asyncio.run(main())
    assert isinstance(outcome, Failed)
    assert outcome.error_class is ErrorClass.NO_CONTACT
    assert outcome.retryable
    assert outcome.is_over_for_now


def test_names_that_do_not_resolve_and_hosts_that_do_not_answer() -> None:
    async def main() -> list[Outcome]:
        async with wire.serve(wire.answers(b"")) as server:
            pass
        async with wire_client() as client:
            urls = ["http://gone.example/a", server.url()]
            return [await fetch(client, u, limits=limits(), gate=FakeGate()) for u in urls]

    classes = [out.error_class for out in asyncio.run(main()) if isinstance(out, Failed)]
    assert classes == [ErrorClass.DNS, ErrorClass.CONNECT]


def test_what_nobody_answers_counts_for_nothing_while_we_are_cut_off() -> None:
    gate = FakeGate(cut_off=True)

    async def main() -> Outcome:
        async with wire_client() as client:
            return await fetch(client, "http://gone.test/1", limits=limits(), gate=gate)

    failed = asyncio.run(main())
    assert isinstance(failed, Failed)
    assert failed.error_class is ErrorClass.DNS
    assert (failed.costs_a_try, failed.was_sent) == (False, False)
    assert (gate.answer.status, gate.answer.error_class) == (None, None)


def test_an_answer_counts_whatever_the_network_does() -> None:
    assert attempt(wire.answers(wire.reply(500)), gate=FakeGate(cut_off=True)).failed.costs_a_try


def test_a_bad_certificate_is_a_tls_error() -> None:
    gate = FakeGate()

    async def main() -> Outcome:
        async with wire.serve(wire.answers(b""), tls=True) as server, wire_client() as client:
            return await fetch(client, server.url(), limits=limits(), gate=gate)

    outcome = asyncio.run(main())
    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.error_code) == (ErrorClass.TLS_SELF_SIGNED, NETWORK_CODE)


@pytest.mark.parametrize(
    ("error", "error_class", "retryable", "costs_a_try"),
    [
        (httpx.ConnectTimeout("x"), ErrorClass.CONNECT, True, True),
        (httpx.ReadTimeout("x"), ErrorClass.TIMEOUT, True, True),
        (httpx.PoolTimeout("x"), ErrorClass.TIMEOUT, True, True),
        (httpx.WriteError("x"), ErrorClass.RESET, True, True),
        (httpx.RemoteProtocolError("x"), ErrorClass.PROTOCOL, True, True),
        (httpx.LocalProtocolError("x"), ErrorClass.INTERNAL, False, True),
        (httpx.InvalidURL("x"), ErrorClass.INTERNAL, False, True),
        (ExhaustedError("Too many open files"), ErrorClass.INTERNAL, True, False),
    ],
)
def test_what_the_client_raises_becomes_a_value(
    error: Exception, error_class: ErrorClass, retryable: bool, costs_a_try: bool
) -> None:
    outcome = mocked(error)
    assert isinstance(outcome, Failed)
    found = (outcome.error_class, outcome.retryable, outcome.costs_a_try)
    assert found == (error_class, retryable, costs_a_try)


def test_untrusted_text_is_quoted_on_one_bounded_line() -> None:
    outcome = mocked(httpx.RemoteProtocolError("evil\r\n\x1b[31m\u202e" + "x" * 5000))
    assert isinstance(outcome, Failed)
    assert outcome.error_msg.isprintable()
    assert len(outcome.error_msg) < 300


def test_a_cancelled_attempt_ends_at_once_and_gives_its_slot_back() -> None:
    gate = FakeGate()

    async def main() -> None:
        async with wire.serve(wire.goes_silent()) as server, wire_client() as client:
            url = server.url()
            asking = asyncio.create_task(fetch(client, url, limits=limits(), gate=gate))
            await server.arrived.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await server.all_ended()

    asyncio.run(main())
    assert (gate.answer.status, gate.answer.error_class) == (None, None)


@pytest.mark.parametrize("where", ["head", "body"])
def test_many_cancelled_attempts_leave_no_connection(where: str) -> None:
    head = b"" if where == "head" else wire.reply(200, b"x" * 10, content_length="999")

    async def main() -> None:
        async with wire.serve(wire.goes_silent(head)) as server, wire_client() as client:
            urls = [server.url(f"/{n}") for n in range(20)]
            tasks = [
                asyncio.create_task(fetch(client, url, limits=limits(), gate=FakeGate()))
                for url in urls
            ]
            async with asyncio.timeout(20):
                while len(server.requests) < len(urls):
                    server.arrived.clear()
                    await server.arrived.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.all_ended()
            assert server.connections == len(urls)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h.example/a%2Fb/%7Ex?y=%20|z#part", b"/a%2Fb/%7Ex?y=%20|z"),
        ("http://h.example", b"/"),
        ("http://h.example?a", b"/?a"),
        ("http://h.example/a?", b"/a?"),
        ("http://h.example/?u=http://x/y", b"/?u=http://x/y"),
        ("http://h.example/a b", None),
        ("http://h.example/\u00e9", None),
        ("http://h.example/a\r\nX: y", None),
    ],
)
def test_the_target_is_the_urls_own_text(url: str, target: bytes | None) -> None:
    assert exact_target(url) == target


@pytest.mark.parametrize("target", ["/a%2Fb/%7Ex+y;z?a=%20b&c=d|e", "/a?", "/a/./b?c[]=1"])
def test_urls_are_asked_for_as_written(target: str) -> None:
    seen = attempt(wire.answers(wire.reply(200, JPEG)), target=target)
    assert seen.server.targets == [target]


def test_limits_come_from_the_settings() -> None:
    class Part:
        total_s, min_bytes_per_s, max_bytes = 60.0, 100.0, 5

    class Settings:
        timeouts = images = Part

    assert FetchLimits.of(Settings()) == limits(  # type: ignore[arg-type]
        total_s=60.0, min_bytes_per_s=100.0, max_bytes=5
    )


@pytest.mark.parametrize("etag", ['"\xe9"', '"\u20ac"', '"a\x7f"', '"a\n"', "", None])
def test_a_validator_that_no_request_can_carry_is_left_out(etag: str | None) -> None:
    said = "Mon, 01 Jan 2024 00:00:00 GMT"
    assert Known(etag, said, "md5").conditions == {"If-Modified-Since": said}
