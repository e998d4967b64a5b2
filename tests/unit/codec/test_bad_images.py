"""A thousand bad images, made from a seed: a class for each, no crash, and memory with an end."""

import asyncio
import gzip
import io
import random
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, TiffImagePlugin

from distributed_downloader.codec.images import encode
from distributed_downloader.codec.processes import Codec
from distributed_downloader.records import CONTENT_CODE, Encoded, ErrorClass, Failed
from distributed_downloader.settings import Images

SEED = 20_260_101
SETTINGS = Images(64, "longest_side", "jpeg", 90, False, 10_000_000, 25_000_000, 150_000_000)
MOST_RESIDENT = 300_000_000  # bytes, of the process that decodes all of them: 60 MB + 150 MB + air
MOST_STORED = 100_000  # bytes of an image of 64 pixels, whatever was stuffed into what was sent
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")

CORRUPT, OTHER = {ErrorClass.CORRUPT_IMAGE}, {ErrorClass.UNSUPPORTED_FORMAT}
NONE, HUGE = {ErrorClass.NOT_AN_IMAGE}, {ErrorClass.TOO_MANY_PIXELS}
ANY = {*CORRUPT, *OTHER, *NONE, *HUGE, ErrorClass.TOO_COSTLY}


@dataclass(frozen=True, slots=True)
class Bad:
    """A body, and what may come of it."""

    kind: str
    body: bytes
    words: set[ErrorClass]
    may_pass: bool = False  # damage that a decoder cannot see


def saved(name: str, size: tuple[int, int] = (90, 70), **options: object) -> bytes:
    buffer = io.BytesIO()
    noise = Image.effect_noise(size, 60).convert("RGB")
    noise.save(buffer, name, **options)
    return buffer.getvalue()


def wholes() -> list[bytes]:
    """Every allowed format, and its harder variants."""
    return [
        *(saved(name) for name in FORMATS),
        saved("JPEG", progressive=True),
        saved("TIFF", compression="tiff_lzw"),
        saved("TIFF", compression="tiff_deflate"),
        saved("TIFF", compression="jpeg"),
        saved("WEBP", lossless=True),
        saved("PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"),
    ]


def truncated(dice: random.Random, whole: Sequence[bytes]) -> Iterator[Bad]:
    """Without a part of their end that matters: policy says that they are not stored."""
    for number in range(300):
        body = whole[number % len(whole)]
        yield Bad("truncated", body[: int(len(body) * dice.uniform(0.02, 0.9))], CORRUPT | NONE)


def flipped(dice: random.Random, whole: Sequence[bytes]) -> Iterator[Bad]:
    for number in range(400):
        body = bytearray(whole[number % len(whole)])
        for _ in range(dice.choice((1, 3, 20))):
            near_the_start = dice.random() < 0.5
            at = dice.randrange(min(len(body), 200) if near_the_start else len(body))
            body[at] ^= 1 << dice.randrange(8)
        yield Bad("flipped", bytes(body), ANY, may_pass=True)


def spliced(dice: random.Random, whole: Sequence[bytes]) -> Iterator[Bad]:
    """The start of one, the end of another."""
    for _ in range(120):
        one, other = dice.sample(whole, 2)
        body = one[: dice.randrange(8, len(one))] + other[dice.randrange(len(other)) :]
        yield Bad("spliced", body, ANY, may_pass=True)


def others(dice: random.Random) -> Iterator[Bad]:
    """Formats that are not taken, and what is no image."""
    formats: dict[bytes, str] = {
        b"\0\0\0\x1cftypavif": "AVIF",
        b"\0\0\0\x18ftypheic": "HEIC",
        b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
        b"\xff\x0a": "JPEG XL",
        b"8BPS\0\1": "Photoshop",
        b"\0\0\1\0\1\0": "ICO",
        b"P6\n2 2\n255\n": "Netpbm",
        b'<svg xmlns="http://www.w3.org/2000/svg">': "SVG",
        b"qoif\0\0\0\2": "QOI",
        b"v/1\1": "OpenEXR",
        b"DDS |\0\0\0": "DDS",
        b"SIMPLE  =                    T": "FITS",
        b"gimp xcf v011": "GIMP",
        b"#?RADIANCE\n": "Radiance",
        b"icns\0\0": "ICNS",
        b"%!PS-Adobe-3.0 EPSF-3.0\n": "PostScript",
        b"IIRO\x08\0\0\0": "Olympus raw",
        b"IIU\0\x18\0\0\0": "Panasonic raw",
        b"FUJIFILMCCD-RAW ": "Fujifilm raw",
        b"II*\0\x10\0\0\0CR\2\0": "Canon raw",
        bytes(128) + b"DICM": "DICOM",
    }
    for start, name in formats.items():
        yield Bad(f"other: {name}", start + dice.randbytes(200), OTHER)
    for page in (b"", b" ", b"<!DOCTYPE html><p>Not found", b'{"error": 404}', b"%PDF-1.7\n"):
        yield Bad("no image", page, NONE)
    for _ in range(60):
        yield Bad("junk", dice.randbytes(dice.randrange(1, 900)), NONE | OTHER | CORRUPT)
    yield Bad("packed", gzip.compress(saved("JPEG")), NONE)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, bits: int = 8) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


def tiff(tags: dict[int, object]) -> bytes:
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in {258: 8, 262: 1, 277: 1, 273: 8, 278: 1, 279: 1, **tags}.items():
        ifd[tag] = value
    buffer = io.BytesIO()
    buffer.write(b"II*\0\x08\0\0\0")
    ifd.save(buffer)
    return buffer.getvalue()


def stuffed() -> Iterator[Bad]:
    """Pictures that could be shown, with much more in them, or built to cost much."""
    small = saved("JPEG", (60, 40))
    comments = (b"\xff\xfe\xff\xff" + bytes(65_533)) * 99
    yield Bad("stuffed: comments", small[:2] + comments + small[2:], ANY, True)
    parts = (b"ICC_PROFILE\0" + bytes([n + 1, 120]) + bytes(60_000) for n in range(120))
    profile = b"".join(b"\xff\xe2" + struct.pack(">H", 2 + len(p)) + p for p in parts)
    yield Bad("stuffed: profile", small[:2] + profile + small[2:], ANY, True)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5_400)
    exif += b"".join(struct.pack("<HHII", tag, 2, 60_000, 8) for tag in range(5_400))
    exif = exif[:65_000]
    tags = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    yield Bad("stuffed: EXIF", small[:2] + tags + small[2:], ANY, True)
    pixels = chunk(b"IDAT", zlib.compress(bytes(72)))
    yield Bad(
        "stuffed: eXIf", png(8, 8, chunk(b"eXIf", b"II*\0" + bytes(9_000_000)), pixels), ANY, True
    )
    yield Bad("stuffed: IDATs", png(8, 8, *[chunk(b"IDAT", b"")] * 50_000, pixels), ANY, True)
    yield Bad("stuffed: scans", scans(150), {ErrorClass.TOO_COSTLY})
    yield Bad("stuffed: a few scans", scans(9), ANY, True)
    frames = [Image.new("L", (40, 40), n % 255) for n in range(300)]
    for name in ("GIF", "WEBP", "TIFF", "PNG"):
        buffer = io.BytesIO()
        frames[0].save(buffer, name, save_all=True, append_images=frames[1:])
        yield Bad(f"stuffed: {name} frames", buffer.getvalue(), ANY, True)
    gif = bytearray(saved("GIF", (60, 40)))
    gif[6:10] = bytes(4)
    yield Bad("stuffed: GIF of no size", bytes(gif), ANY, True)
    round_and_round = bytearray(saved("TIFF", (8, 8)))
    (at,) = struct.unpack("<I", round_and_round[4:8])
    (count,) = struct.unpack("<H", round_and_round[at : at + 2])
    round_and_round[at + 2 + 12 * count : at + 6 + 12 * count] = struct.pack("<I", at)
    yield Bad("stuffed: TIFF that is a circle", bytes(round_and_round), ANY, True)
    many = b"".join(struct.pack("<HHII", 40_000 + n % 20_000, 1, 2**24, 8) for n in range(60_000))
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", 60_000)
    yield Bad("stuffed: TIFF tags", head + many + bytes(204), {ErrorClass.TOO_COSTLY})


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = saved("JPEG", (500, 500), progressive=True, quality=5)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * count + whole[-2:]


def bombs(dice: random.Random) -> Iterator[Bad]:
    """Small files that would be large: by their headers, or by what they unpack to."""
    side = 4_990  # just allowed
    black = zlib.compress(bytes((side + 1) * side), 9)
    yield Bad("bomb: large and legal", png(side, side, chunk(b"IDAT", black)), ANY, may_pass=True)
    yield Bad(
        "bomb: rows beyond", png(8, 8, chunk(b"IDAT", zlib.compress(bytes(10**7)))), ANY, True
    )
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9))
    yield Bad("bomb: text", png(8, 8, text, chunk(b"IDAT", zlib.compress(bytes(72)))), ANY, True)
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8), 9))
    pixels = chunk(b"IDAT", zlib.compress(bytes(72)))
    yield Bad("bomb: profile", png(8, 8, profile, pixels), ANY, True)
    yield Bad("bomb: tile", tiff({256: 16, 257: 16, 322: 60_000, 323: 60_000}), HUGE)
    yield Bad("bomb: strip", tiff({256: 4_000, 257: 4_000, 278: 2**32 - 1, 259: 8}), ANY)
    yield Bad("bomb: samples", tiff({256: 4_000, 257: 4_000, 277: 60_000}), ANY)
    for _ in range(15):
        wide, high = dice.randrange(5_001, 65_000), dice.randrange(5_001, 65_000)
        yield Bad("bomb: PNG", png(wide, high, chunk(b"IDAT", black[:999])), HUGE)
        gif = bytearray(saved("GIF"))
        gif[6:10] = struct.pack("<HH", wide, high)
        yield Bad("bomb: GIF", bytes(gif), HUGE)
        jpeg = bytearray(saved("JPEG"))
        at = jpeg.index(b"\xff\xc0")
        jpeg[at + 5 : at + 9] = struct.pack(">HH", high, wide)
        yield Bad("bomb: JPEG", bytes(jpeg), HUGE)
        bmp = bytearray(saved("BMP"))
        bmp[18:26] = struct.pack("<ii", wide, high)
        yield Bad("bomb: BMP", bytes(bmp), HUGE)
        sizes = (wide - 1).to_bytes(3, "little") + (high - 1).to_bytes(3, "little")
        webp = b"RIFF\x30\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + sizes + bytes(20)
        yield Bad("bomb: WebP", webp, HUGE)
        yield Bad("bomb: TIFF", tiff({256: wide, 257: high}), HUGE)


def corpus() -> list[Bad]:
    dice, whole = random.Random(SEED), wholes()
    made: list[Callable[[], Iterator[Bad]]] = [
        lambda: truncated(dice, whole),
        lambda: flipped(dice, whole),
        lambda: spliced(dice, whole),
        lambda: others(dice),
        lambda: bombs(dice),
        stuffed,
    ]
    return [bad for each in made for bad in each()]


@pytest.fixture(scope="module")
def judged() -> tuple[list[tuple[Bad, Encoded | Failed]], int, int]:
    """Each with its outcome; the processes that were used, and the memory that the last took."""
    bads = corpus()

    async def main() -> tuple[list[Encoded | Failed], int, int]:
        codec = Codec(SETTINGS, 1)
        try:
            await codec.encode(b"")
            first = codec._idle[0]._process.pid
            outcomes = [await codec.encode(bad.body) for bad in bads]
            last = codec._idle[0]._process.pid
            status = Path(f"/proc/{last}/status").read_text(encoding="ascii")
            peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            return outcomes, int(first != last), int(peak.split()[1]) * 1024
        finally:
            codec.close()

    outcomes, crashes, peak = asyncio.run(main())
    return list(zip(bads, outcomes, strict=True)), crashes, peak


def test_each_of_a_thousand_bad_images_has_a_class(
    judged: tuple[list[tuple[Bad, Encoded | Failed]], int, int],
) -> None:
    pairs, _, _ = judged
    assert len(pairs) >= 1_000
    wrong = Counter[str]()
    for bad, outcome in pairs:
        if isinstance(outcome, Failed):
            is_right = outcome.error_class in bad.words and outcome.error_code == CONTENT_CODE
            assert outcome.error_msg.isprintable()
            assert len(outcome.error_msg) < 500
            assert not outcome.retryable
            wrong[f"{bad.kind}: {outcome.error_class} {outcome.error_msg}"] += not is_right
        else:
            wrong[f"{bad.kind}: stored"] += not bad.may_pass
    assert not +wrong


def test_none_of_them_ends_the_process_or_takes_more_memory_than_it_may(
    judged: tuple[list[tuple[Bad, Encoded | Failed]], int, int],
) -> None:
    _, crashes, peak = judged
    assert crashes == 0
    assert peak < MOST_RESIDENT


def test_what_passes_can_be_read(
    judged: tuple[list[tuple[Bad, Encoded | Failed]], int, int],
) -> None:
    stored = [outcome for _, outcome in judged[0] if isinstance(outcome, Encoded)]
    assert stored
    for outcome in stored:
        with warnings.catch_warnings(action="ignore"):  # as those who read it would
            assert isinstance(encode(outcome.data, SETTINGS), Encoded)
        assert len(outcome.data) < MOST_STORED
        assert len(outcome.exif or "") < MOST_STORED
