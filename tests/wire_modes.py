"""What a server may do to us over the bare wire, by name, and the word that must come of it.

The unit tests of the wire ask each once; `make drill` serves them all to runs that are killed.
"""

import gzip
import io
import zlib
from itertools import count
from typing import NamedTuple

import zstandard
from PIL import Image

from distributed_downloader.records import ErrorClass
from tests import wire_server as wire


def small_photo() -> bytes:
    """An image of some kilobytes."""
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((96, 96)).convert("RGB").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


JPEG = small_photo()
MOST_BYTES = 1_000_000  # of a body, for those who are to be met with these
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FOUND = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n"
SLOW = {ErrorClass.TOO_SLOW, ErrorClass.TIMEOUT}
BROKEN = {ErrorClass.PROTOCOL}
CUT = {ErrorClass.RESET}


class Mode(NamedTuple):
    """What a server does, and the words that may come of it (none: the image)."""

    script: wire.Script
    words: set[ErrorClass]


def redirects_for_ever(padding: bytes = b"") -> wire.Script:
    numbers = count()

    async def script(exchange: wire.Exchange) -> bool:
        head = b"HTTP/1.1 302 Found\r\nLocation: /%d\r\n" % next(numbers)
        await exchange.write(head + b"Content-Length: %d\r\n\r\n" % len(padding) + padding)
        return True

    return script


def redirects_to(location: str) -> wire.Script:
    return wire.answers(wire.reply(302, location=location))


def packed(coding: str, body: bytes) -> wire.Script:
    return wire.answers(wire.reply(200, body, content_encoding=coding))


BOMB = b"\0" * 20_000_000
MODES: dict[str, Mode] = {
    # ---- connections
    "closes at once": Mode(wire.then_closes(b""), CUT),
    "resets at once": Mode(wire.then_resets(b""), CUT),
    "is silent": Mode(wire.goes_silent(), SLOW),
    "is silent in its head": Mode(wire.goes_silent(OK + b"Content-Le"), SLOW),
    "is silent before its body": Mode(wire.goes_silent(wire.reply(200, content_length="9")), SLOW),
    "is silent in its body": Mode(
        wire.goes_silent(wire.reply(200, JPEG, content_length="99999")), SLOW
    ),
    # ---- heads
    "drips its head": Mode(wire.drips(OK + b"X: "), SLOW),
    "one endless header": Mode(wire.floods(OK + b"X: ", b"x" * 60_000), BROKEN),
    "endless headers": Mode(wire.floods(OK, b"X: y\r\n" * 10_000), BROKEN),
    "endless interim answers": Mode(
        wire.floods(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1_000), SLOW
    ),
    "not HTTP": Mode(wire.then_closes(b"SSH-2.0-OpenSSH_9\r\n"), BROKEN),
    "garbage for ever": Mode(wire.floods(b"", bytes(range(256)) * 100), BROKEN),
    "no head at all": Mode(wire.then_closes(JPEG), BROKEN),
    "a status of 4 digits": Mode(wire.then_closes(b"HTTP/1.1 2000 OK\r\n\r\n" + JPEG), BROKEN),
    "a line break in a header": Mode(wire.then_closes(OK + b"X: a\n\rb\r\n\r\n"), BROKEN),
    "a NUL in a header": Mode(wire.then_closes(OK + b"X: a\0b\r\n\r\n"), BROKEN),
    # ---- lengths
    "shorter than it says": Mode(
        wire.then_closes(wire.reply(200, JPEG, content_length="99999")), CUT
    ),
    "longer than it says": Mode(wire.in_pieces(wire.reply(200, JPEG), b"MORE"), set()),
    "a length below zero": Mode(wire.then_closes(wire.reply(200, content_length="-1")), BROKEN),
    "a length of 5000 digits": Mode(
        wire.then_closes(wire.reply(200, content_length="9" * 5000)), BROKEN
    ),
    "two lengths": Mode(
        wire.then_closes(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), BROKEN
    ),
    "a length and chunks": Mode(
        wire.then_closes(wire.reply(200, b"3\r\nabc\r\n0\r\n\r\n", transfer_encoding="chunked")),
        BROKEN,
    ),
    "too large, and says so": Mode(
        wire.goes_silent(wire.reply(200, content_length=str(MOST_BYTES + 1))),
        {ErrorClass.TOO_LARGE},
    ),
    "endless": Mode(wire.floods(OK + b"\r\n", b"x" * 60_000), {ErrorClass.TOO_LARGE}),
    "drips its body": Mode(wire.drips(wire.reply(200, content_length="1000000")), SLOW),
    # ---- chunks
    "endless small chunks": Mode(
        wire.floods(CHUNKED, b"4\r\nabcd\r\n" * 5_000), {ErrorClass.TOO_LARGE}
    ),
    "a chunk size that is none": Mode(wire.in_pieces(CHUNKED, b"3\r\nabc\r\n", b"zz\r\n"), BROKEN),
    "a chunk of 16 exabytes": Mode(
        wire.then_closes(CHUNKED + b"f" * 16 + b"\r\nabc"), BROKEN | CUT
    ),
    "a chunk below zero": Mode(wire.then_closes(CHUNKED + b"-1\r\nabc\r\n"), BROKEN),
    "a cut chunk": Mode(wire.then_closes(CHUNKED + b"9\r\nab"), CUT),
    "an endless chunk extension": Mode(wire.floods(CHUNKED + b"3;", b"x" * 60_000), SLOW),
    "endless trailers": Mode(
        wire.floods(CHUNKED + b"3\r\nabc\r\n0\r\n", b"X: y\r\n" * 10_000), BROKEN
    ),
    # ---- compression that nobody asked for
    "a gzip bomb": Mode(packed("gzip", gzip.compress(BOMB, 9)), {ErrorClass.TOO_LARGE}),
    "a deflate bomb": Mode(packed("deflate", zlib.compress(BOMB, 9)), {ErrorClass.TOO_LARGE}),
    "a zstd bomb": Mode(packed("zstd", zstandard.compress(BOMB)), BROKEN),
    "brotli": Mode(packed("br", b"\x0b\x02\x80" + bytes(99)), BROKEN),
    "gzip in gzip": Mode(packed("gzip, gzip", gzip.compress(gzip.compress(JPEG))), BROKEN),
    "gzip that is cut": Mode(packed("gzip", gzip.compress(JPEG)[:-9]), CUT),
    "gzip that is damaged": Mode(packed("gzip", gzip.compress(JPEG)[:90] + b"\xff" * 999), CUT),
    # ---- statuses and labels
    "204": Mode(wire.then_closes(b"HTTP/1.1 204 None\r\n\r\n"), {ErrorClass.HTTP_OTHER}),
    "204 with a body": Mode(wire.then_closes(wire.reply(204, JPEG)), BROKEN),
    "206": Mode(wire.answers(wire.reply(206, JPEG[:50])), {ErrorClass.HTTP_OTHER}),
    "304": Mode(wire.then_closes(b"HTTP/1.1 304 Whatever\r\n\r\n"), {ErrorClass.HTTP_OTHER}),
    "an empty 200": Mode(wire.answers(wire.reply(200)), {ErrorClass.NOT_AN_IMAGE}),
    "a page": Mode(
        wire.answers(wire.reply(200, b"<!DOCTYPE html>" + b"x" * 99, content_type="text/html")),
        {ErrorClass.NOT_AN_IMAGE},
    ),
    "an endless page": Mode(
        wire.floods(OK + b"Content-Type: text/html\r\n\r\n<html>", b"x" * 60_000),
        {ErrorClass.NOT_AN_IMAGE},
    ),
    "an image called a page": Mode(
        wire.answers(wire.reply(200, JPEG, content_type="text/html")), set()
    ),
    "a label of 15,000 bytes": Mode(
        wire.answers(wire.reply(200, JPEG, content_type="image/" + "x" * 15_000)), set()
    ),
    # ---- redirects
    "redirects to itself": Mode(redirects_to("/a.jpg"), {ErrorClass.REDIRECT_LOOP}),
    "redirects for ever": Mode(redirects_for_ever(), {ErrorClass.REDIRECT_LOOP}),
    "redirects with megabytes": Mode(redirects_for_ever(bytes(10**6)), {ErrorClass.REDIRECT_LOOP}),
    "redirects and drips": Mode(
        wire.drips(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 99999\r\n\r\n"),
        {ErrorClass.REDIRECT_LOOP},
    ),
    "redirects to a file": Mode(redirects_to("file:///etc/passwd"), {ErrorClass.REDIRECT_INVALID}),
    "redirects with a password": Mode(
        redirects_to("ftp://me:s3cret@a.example/1.jpg"), {ErrorClass.REDIRECT_INVALID}
    ),
    "redirects to 9,000 characters": Mode(
        redirects_to("/" + "x" * 9_000), {ErrorClass.REDIRECT_INVALID}
    ),
    "redirects to 99,000 characters": Mode(redirects_to("/" + "x" * 99_000), BROKEN),
    "redirects with a line break": Mode(
        wire.then_closes(FOUND + b"Location: /b\n\rX: y\r\n\r\n"), BROKEN
    ),
}
