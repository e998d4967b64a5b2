"""What a host may answer, true to HTTP or not, as values that the server then sends."""

import struct
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from enum import Enum, auto
from functools import cache

from distributed_downloader.fleet.plan import HostPlan, Trick

HTML = {"Content-Type": "text/html; charset=utf-8"}
TEXT = {"Content-Type": "text/plain"}
BOMB_SIDE = 20_000  # pixels
DRIP_BYTES_PER_S = 20.0


class Ending(Enum):
    """What becomes of the connection."""

    KEEP = auto()  # the whole answer, and the next request
    CUT = auto()  # half of the body, then closed
    HANG = auto()  # no answer
    RESET = auto()  # no answer, closed
    GARBAGE = auto()  # the body without a status line or headers, closed


@dataclass(frozen=True, slots=True)
class Request:
    """What of a request decides the answer."""

    method: str
    target: str  # path and query
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def name(self) -> str:
        """The last segment of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Reply:
    """What will be sent, and how. Status 0: no HTTP at all."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    ending: Ending = Ending.KEEP
    delay_s: float = 0.0
    bytes_per_s: float | None = None


NO_ANSWER = Reply(0, ending=Ending.HANG)
NOT_FOUND = Reply(404, b"<!doctype html><title>Not found</title>\n", HTML)
PAGES = {
    Trick.NOT_FOUND: NOT_FOUND,
    Trick.GONE: Reply(410, b"<!doctype html><title>Gone</title>\n", HTML),
    Trick.FORBIDDEN: Reply(403, b"<!doctype html><title>Forbidden</title>\n", HTML),
    Trick.SERVER_ERROR: Reply(500, b"<!doctype html><title>Broken</title>\n", HTML),
    Trick.HTML: Reply(200, b"<!doctype html><title>A specimen</title><p>Its page.</p>\n", HTML),
    Trick.HANG: NO_ANSWER,
    Trick.RESET: Reply(0, ending=Ending.RESET),
    Trick.GARBAGE: Reply(0, b"\x00\x01 this is not HTTP\n\n", ending=Ending.GARBAGE),
}


def trick_reply(trick: Trick, image: Reply) -> Reply:  # noqa: PLR0911 (a table)
    """What this trick (any but a redirect) makes of the image that the URL would bring."""
    match trick:
        case Trick.DISGUISED:
            return replace(image, body=b"<!doctype html><title>Log in</title>\n")
        case Trick.EMPTY:
            return replace(image, body=b"")
        case Trick.TRUNCATED:
            return replace(image, ending=Ending.CUT)
        case Trick.CORRUPT:
            return replace(image, body=image.body[: len(image.body) // 2])
        case Trick.BOMB:
            return replace(
                image, body=bomb(), headers={**image.headers, "Content-Type": "image/png"}
            )
        case Trick.OPT_OUT:
            return replace(image, headers={**image.headers, "X-Robots-Tag": "noai, noimageai"})
        case Trick.DRIP:
            return replace(image, bytes_per_s=DRIP_BYTES_PER_S)
        case _:
            return PAGES[trick]


def not_now(plan: HostPlan, status: int) -> Reply:
    """A refusal or a failure, with Retry-After if the plan says so (RFC 9110, 10.2.3)."""
    wait_s, headers = plan.retry_after_s, TEXT
    if wait_s is not None:
        date = formatdate(time.time() + wait_s, usegmt=True)
        headers = {**TEXT, "Retry-After": date if plan.retry_after_as_date else f"{wait_s:g}"}
    return Reply(status, b"not now\n", headers)


@cache
def bomb() -> bytes:
    """A valid PNG of 50 KB and 400 megapixels, one bit each."""
    row = bytes(1 + (BOMB_SIDE + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(BOMB_SIDE)) + packer.flush()
    header = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
