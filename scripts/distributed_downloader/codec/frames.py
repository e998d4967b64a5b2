"""Messages between a rank and the process that decodes for it: some JSON, and some bytes.

Nothing is unpickled: what decodes the bytes of strangers may have been taken over by them, so its
words are data, and their size is bounded.
"""

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

from distributed_downloader.records import CONTENT_CODE, Encoded, ErrorClass, Failed

_SIZES = struct.Struct(">IQ")  # bytes of the JSON, bytes of the data
MOST_JSON = 256 * 2**10
_AT_ONCE = 2**20

READY: Mapping[str, Any] = {"is": "ready"}


class BrokenFrameError(Exception):
    """What came is no message of ours."""


def send(to: socket.socket, told: Mapping[str, Any], data: bytes = b"") -> None:
    """Raises OSError if nobody takes it, or not in the socket's time."""
    text = json.dumps(told).encode()
    to.sendall(_SIZES.pack(len(text), len(data)) + text)
    to.sendall(data)


def receive(source: socket.socket, most_bytes: int) -> tuple[Any, bytes] | None:
    """The next message; None if the other end is gone. Raises OSError, BrokenFrameError."""
    head = _exactly(source, _SIZES.size)
    if head is None:
        return None
    of_json, of_data = _SIZES.unpack(head)
    if of_json > MOST_JSON or of_data > most_bytes:
        raise BrokenFrameError(f"a message of {of_json} + {of_data} bytes")
    text, data = _exactly(source, of_json), _exactly(source, of_data)
    if text is None or data is None:
        return None
    try:
        return json.loads(text), data
    except ValueError as error:
        raise BrokenFrameError("no JSON") from error


def _exactly(source: socket.socket, wanted: int) -> bytes | None:
    parts: list[bytes] = []
    while wanted:
        part = source.recv(min(wanted, _AT_ONCE))
        if not part:
            return None
        parts.append(part)
        wanted -= len(part)
    return b"".join(parts)


def told_of(outcome: Encoded | Failed, body: bytes) -> tuple[Mapping[str, Any], bytes]:
    """The message that brings an outcome; a body that is stored as it is does not go back."""
    if isinstance(outcome, Failed):
        return {"is": "failed", "class": outcome.error_class, "says": outcome.error_msg}, b""
    is_body = outcome.data is body
    told = {
        "is": "body" if is_body else "encoded",
        "hashes": [outcome.hashsum_original, outcome.hashsum_resized],
        "sizes": [outcome.original_size, outcome.resized_size],
        "exif": outcome.exif,
        "warnings": outcome.warnings,
    }
    return told, b"" if is_body else outcome.data


def outcome_of(told: Any, data: bytes, body: bytes, *, keep_original: bool) -> Encoded | Failed:
    """What the message brings, looked at as what a stranger sent. Raises BrokenFrameError."""
    try:
        if told["is"] == "failed":
            message = str(told["says"])[:500]
            return Failed(ErrorClass(told["class"]), CONTENT_CODE, message, retryable=False)
        if told["is"] not in ("body", "encoded"):
            raise ValueError(told["is"])
        is_body = told["is"] == "body"
        original, resized = (_size(size) for size in told["sizes"])
        hashes = [str(each)[:32] for each in told["hashes"]]
        return Encoded(
            data=body if is_body else data,
            original=body if keep_original and not is_body else None,
            hashsum_original=hashes[0],
            hashsum_resized=hashes[1],
            original_size=original,
            resized_size=resized,
            exif=None if told["exif"] is None else str(told["exif"]),
            warnings=None if told["warnings"] is None else str(told["warnings"]),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BrokenFrameError(f"not what an outcome looks like: {error!r}") from error


def _size(size: Any) -> tuple[int, int]:
    height, width = (int(side) for side in size)
    if not (0 < height < 2**31 and 0 < width < 2**31):
        raise ValueError(size)
    return height, width
