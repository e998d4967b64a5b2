"""Reading the body of one answer, from a server that may lie, drip or never end.

1. The attempt's deadline holds from the first byte sent to the last one read.
2. A body must bring `min_bytes_per_s` on average over every `window_s`.
3. Over `max_bytes`, declared or real, plain or unpacked, it is not an image for us.
4. We ask for no compression. One gzip or deflate sent anyway is unpacked up to `max_bytes`;
   anything else (brotli, zstd, gzip in gzip) is refused unread.
5. What says it is HTML, and looks like it, is not read to its end.
6. A body has its place in the rank's room before it is read (`room`).
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import cast

import httpx

from distributed_downloader.records import CONTENT_CODE, NETWORK_CODE, ErrorClass, Failed
from distributed_downloader.settings import Settings
from distributed_downloader.urls.authorities import without_credentials
from distributed_downloader.wire.room import FIRST_BYTES, FREE_BYTES, Place

DRAINED_BYTES = 65_536  # of an unwanted body: cheaper than a new connection
DRAINED_S = 1.0
_QUOTED = 200  # characters of untrusted text in a message
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
_ZLIB_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_ZLIB_STARTS = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_NEVER_ASKED_FOR = frozenset({"br", "zstd", "compress", "x-compress"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """What one attempt at one URL may cost."""

    total_s: float  # all hops and the body; the gate's waits apart
    min_bytes_per_s: float
    max_bytes: int
    window_s: float = 5.0  # over which the speed is measured, and the grace before it counts
    max_hops: int = 5
    is_text: bool = False  # robots.txt: HTML and nothing are fine, what is over max_bytes is cut

    @classmethod
    def of(cls, settings: Settings) -> "FetchLimits":
        """The limits of an image."""
        return cls(
            total_s=settings.timeouts.total_s,
            min_bytes_per_s=settings.timeouts.min_bytes_per_s,
            max_bytes=settings.images.max_bytes,
        )


class Pace:
    """Moves a running timeout: to the end of the speed's window, or to the deadline if nearer."""

    def __init__(self, limits: FetchLimits, timer: asyncio.Timeout) -> None:
        self._quota = limits.min_bytes_per_s * limits.window_s
        self._window_s = limits.window_s
        self._timer = timer
        self._deadline = timer.when()
        self._missing = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What passes in this block is our time, not the server's: nothing expires, all moves."""
        clock = asyncio.get_running_loop().time
        began = clock()
        self._timer.reschedule(None)
        try:
            yield
        finally:
            if self._deadline is not None:
                self._deadline += clock() - began
            self._timer.reschedule(self._deadline)

    def start(self) -> None:
        """Begin a window now."""
        if self._quota > 0:
            self._missing = self._quota
            end = asyncio.get_running_loop().time() + self._window_s
            self._timer.reschedule(end if self._deadline is None else min(end, self._deadline))

    def received(self, nbytes: int) -> None:
        """A window that got its bytes ends, and the next begins."""
        self._missing -= nbytes
        if self._missing <= 0:
            self.start()

    @property
    def is_too_slow(self) -> bool:
        """Of an expired timeout: whether the speed, not the deadline, ended it."""
        return self._timer.when() != self._deadline


def quoted(text: str) -> str:
    """Untrusted text on one line, bounded, with everything unprintable escaped."""
    return repr(text[:_QUOTED]) + ("..." if len(text) > _QUOTED else "")


def no_image(error_class: ErrorClass, message: str) -> Failed:
    """A body that is no image for us, now or later."""
    return Failed(error_class, CONTENT_CODE, message, retryable=False)


class Reader:
    """One body: `read` it, and `nbytes` says what came over the wire, also after a failure."""

    def __init__(
        self,
        response: httpx.Response,
        limits: FetchLimits,
        pace: Pace,
        place: Place | None = None,
    ) -> None:
        self._response = response
        self._limits = limits
        self._pace = pace
        self._place = place
        self.nbytes = 0

    async def read(self) -> bytes | Failed:
        """The whole body, unpacked. Raises httpx errors and the timeout's."""
        declared = self._response.headers.get("content-length", "")
        if declared.isdecimal() and self._is_too_large(int(declared)):
            return self._too_large(f"{int(declared)} bytes announced")
        if declared.isdecimal() and int(declared) > FREE_BYTES:
            await self._reserve(int(declared))
        self._pace.start()
        body = await self._received()
        if isinstance(body, Failed):
            return body
        body = await self._unpacked(body)
        if not body and not self._limits.is_text:
            return no_image(ErrorClass.NOT_AN_IMAGE, "the body is empty")
        return body

    async def drain(self) -> None:
        """Read away a small unwanted body, so that the connection can be used again."""
        with suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(DRAINED_S), self._chunks() as chunks:
                async for chunk in chunks:
                    self.nbytes += len(chunk)
                    if self.nbytes > DRAINED_BYTES:
                        return

    async def _received(self) -> bytes | Failed:
        parts: list[bytes] = []
        async with self._chunks() as chunks:
            async for chunk in chunks:
                parts.append(chunk)
                self.nbytes += len(chunk)
                self._pace.received(len(chunk))
                if self._is_too_large(self.nbytes):
                    return self._too_large(f"over {self._limits.max_bytes} bytes")
                if self.nbytes > FREE_BYTES:
                    await self._reserve(self.nbytes, step=FIRST_BYTES)
                if self.nbytes >= self._limits.max_bytes and self._limits.is_text:
                    break
                if self.nbytes > DRAINED_BYTES and self._is_html(parts[0]):
                    break
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return _html(body) if self._is_html(body) else body[: self._limits.max_bytes]

    async def _reserve(self, nbytes: int, step: int = 1) -> None:
        """Hold so many bytes at least, in such steps; the server does not pay for the wait."""
        if self._place is None or self._place.held >= nbytes:
            return
        with self._pace.paused():
            await self._place.reserve(-(-nbytes // step) * step)
        self._pace.start()

    def _chunks(self) -> "aclosing[AsyncGenerator[bytes, None]]":
        stream = cast(httpx.AsyncByteStream, self._response.stream)
        return aclosing(cast(AsyncGenerator[bytes, None], stream.__aiter__()))

    def _is_too_large(self, nbytes: int) -> bool:
        return nbytes > self._limits.max_bytes and not self._limits.is_text

    def _too_large(self, what: str) -> Failed:
        return no_image(
            ErrorClass.TOO_LARGE, f"{what}, images.max_bytes is {self._limits.max_bytes}"
        )

    def _is_html(self, start: bytes) -> bool:
        """Both the label and the first bytes say so: many servers call an image text/html."""
        label = self._response.headers.get("content-type", "").lower()
        if self._limits.is_text or not label.startswith(("text/html", "application/xhtml")):
            return False
        return start[:512].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")

    async def _unpacked(self, body: bytes) -> bytes | Failed:
        label = self._response.headers.get("content-encoding", "").lower()
        codings = [coding.strip() for coding in label.split(",")]
        packings = [coding for coding in codings if coding in _ZLIB_CODINGS]
        if len(packings) > 1 or not _NEVER_ASKED_FOR.isdisjoint(codings):
            return Failed(
                ErrorClass.PROTOCOL,
                CONTENT_CODE,
                f"sent with Content-Encoding {quoted(without_credentials(label))}, not asked for",
                retryable=False,
            )
        if not packings or not body.startswith(_ZLIB_STARTS):
            return body  # `none`, `binary`, `utf-8`, or gzip that is none: all seen, all plain
        return await asyncio.to_thread(unpacked, body, self._limits)


def unpacked(body: bytes, limits: FetchLimits) -> bytes | Failed:
    """What gzip or zlib holds, if it is whole and within `max_bytes`: a bomb is never unpacked."""
    inflater = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        plain = inflater.decompress(body, limits.max_bytes + 1)
    except zlib.error as error:
        return _broken(f"cannot be unpacked: {error}")
    if len(plain) > limits.max_bytes:
        if limits.is_text:
            return plain[: limits.max_bytes]
        return no_image(
            ErrorClass.TOO_LARGE, f"{len(body)} bytes unpack to over {limits.max_bytes}"
        )
    return plain if inflater.eof or limits.is_text else _broken("ends before its packing does")


def _broken(what: str) -> Failed:
    return Failed(ErrorClass.RESET, NETWORK_CODE, f"the body {what}", retryable=True)


def _html(body: bytes) -> Failed:
    start = body[:60].decode("latin-1")
    return no_image(ErrorClass.NOT_AN_IMAGE, f"an HTML page: {quoted(start)}")
