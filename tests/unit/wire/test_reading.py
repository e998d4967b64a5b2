import asyncio
import gzip
import tracemalloc
import zlib
from contextlib import suppress

import httpx
import pytest

from distributed_downloader.records import CONTENT_CODE, ErrorClass, Fetched, Outcome
from distributed_downloader.wire.fetching import fetch
from distributed_downloader.wire.reading import unpacked
from distributed_downloader.wire.room import FIRST_BYTES, Place, Room
from tests import wire_server as wire
from tests.unit.wire.attempts import JPEG, FakeGate, attempt, limits, wire_client


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
