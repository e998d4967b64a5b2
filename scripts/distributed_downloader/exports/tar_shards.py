"""Tar shards as the webdataset library reads them: `<key>.json` and `<key>.jpg` for each image.

The headers of a block are made together, and images go from the buffer to the file as they are:
anything done for each image on its own would take longer than copying it.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from distributed_downloader.exports.blocks import Block
from distributed_downloader.exports.targets import Piece, Sink, plain_name

RECORD_BYTES = 512  # of tar: headers and files are padded to it
MAX_KEY = 80  # bytes; a member's name has room for 100

_PLAIN_KEY = re.compile(rf"[A-Za-z0-9-]{{1,{MAX_KEY}}}").fullmatch
_ZEROS = bytes(RECORD_BYTES)
_PADDING = [_ZEROS[: -size % RECORD_BYTES] for size in range(RECORD_BYTES)]
_SIZE, _CHECKSUM = slice(124, 135), slice(148, 154)  # octal digits, POSIX ustar


def key_of(uuid: str) -> str:
    """What the members of an image are called; webdataset takes all up to the first dot."""
    if _PLAIN_KEY(uuid):  # nearly always
        return uuid
    name = plain_name(uuid)
    return name if len(name) <= MAX_KEY else hashlib.sha256(uuid.encode()).hexdigest()


def write_tar(sink: Sink, blocks: Iterable[Block]) -> int:
    """Write a whole tar file of blocks with JSON; the number of its images."""
    images = 0
    for block in blocks:
        sink.write(tar_pieces(block))
        images += len(block.rows)
    sink.write([_ZEROS, _ZEROS])
    return images


def tar_pieces(block: Block) -> list[Piece]:
    """The members of a block, in pieces that point into it."""
    keys = list(map(key_of, block.rows["uuid"].to_list()))
    told = [line.encode() for line in block.rows["json"].to_list()]
    described = headers([f"{key}.json" for key in keys], list(map(len, told)))
    names = [f"{key}.{suffix}" for key, suffix in zip(keys, block.suffixes, strict=True)]
    stored = headers(names, np.diff(block.offsets))
    pieces: list[Piece] = []
    before = b""
    for first, text, second, image in zip(described, told, stored, block.images, strict=True):
        pieces += (b"".join((before, first, text, _padding(len(text)), second)), image)
        before = _padding(len(image))
    return [*pieces, before]


def _padding(size: int) -> bytes:
    return _PADDING[size % RECORD_BYTES]


def headers(names: Sequence[str], sizes: Sequence[int] | npt.NDArray[np.int64]) -> list[bytes]:
    """The tar header of each file: mode 644, of nobody, without a time."""
    table = np.zeros((len(names), RECORD_BYTES), dtype=np.uint8)
    table[:] = np.frombuffer(_template(), dtype=np.uint8)
    told = np.array([name.encode() for name in names], dtype="S100")
    table[:, :100] = told.view(np.uint8).reshape(len(names), 100)
    table[:, _SIZE] = _octal(np.asarray(sizes, dtype=np.int64), 11)
    table[:, _CHECKSUM] = _octal(table.sum(axis=1, dtype=np.int64), 6)
    whole = table.tobytes()
    return [whole[at : at + RECORD_BYTES] for at in range(0, len(whole), RECORD_BYTES)]


def _template() -> bytes:
    """All that is the same in every header; the checksum counts as eight spaces."""
    fixed = [(100, b"0000644\0" + b"0000000\0" * 2), (135, b"\0" + b"0" * 11 + b"\0")]
    fixed += [(148, b" " * 8), (156, b"0"), (257, b"ustar\00000")]
    header = bytearray(RECORD_BYTES)
    for place, text in fixed:
        header[place : place + len(text)] = text
    return bytes(header)


def _octal(values: npt.NDArray[np.int64], digits: int) -> npt.NDArray[np.uint8]:
    places = 3 * np.arange(digits - 1, -1, -1)
    return ((values[:, None] >> places & 7) + ord("0")).astype(np.uint8)
