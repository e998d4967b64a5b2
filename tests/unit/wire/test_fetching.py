import asyncio
from dataclasses import replace

import httpx
import pytest

from distributed_downloader.records import CONTENT_CODE, ErrorClass, Failed, Fetched, Known
from distributed_downloader.wire.fetching import FetchLimits, exact_target, fetch
from distributed_downloader.wire.outcomes import classify_status
from tests import wire_server as wire
from tests.unit.wire.attempts import JPEG, FakeGate, attempt, limits, mocked, wire_client


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


def test_waiting_in_the_gate_does_not_count_against_the_deadline() -> None:
    seen = attempt(wire.redirects_to("/2", "/3"), gate=FakeGate(wait_s=0.3), total_s=0.5)
    assert seen.fetched.body == b"image"


def test_nor_does_waiting_to_leave_and_it_is_no_latency() -> None:
    seen = attempt(wire.redirects_to("/2", "/3"), gate=FakeGate(held_s=0.3), total_s=0.5)
    assert seen.fetched.body == b"image"
    assert all(answer.latency_s < 0.3 for _, answer in seen.gate.answers)


@pytest.mark.parametrize(("path", "was_sent"), [("/1", False), ("/2", True)])
def test_one_that_is_held_back_ends_the_attempt_and_says_whether_any_was_sent(
    path: str, was_sent: bool
) -> None:
    stopped = Failed(ErrorClass.INTERNAL, -2, "stopped", True, was_sent=False)
    seen = attempt(wire.redirects_to("/2"), gate=FakeGate(held_back={path: stopped}))
    assert seen.failed == replace(stopped, was_sent=was_sent)
    last = seen.gate.answers[-1][1]
    assert (last.status, last.error_class) == (None, None)  # given up: the slot is free again


def test_the_gate_may_stop_an_attempt_before_any_request() -> None:
    refused = Failed(ErrorClass.ROBOTS_DISALLOWED, CONTENT_CODE, "no", retryable=False)
    seen = attempt(wire.answers(wire.reply(200, JPEG)), gate=FakeGate(stops={"/": refused}))
    assert seen.outcome is refused
    assert seen.server.requests == []
    assert seen.gate.answers == []


def test_the_gate_may_refuse_an_answer() -> None:
    no = Failed(ErrorClass.OPTED_OUT, CONTENT_CODE, "x-robots-tag: noai", retryable=False)
    seen = attempt(wire.answers(wire.reply(200, JPEG)), gate=FakeGate(verdicts={"/": no}))
    assert seen.outcome is no


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
