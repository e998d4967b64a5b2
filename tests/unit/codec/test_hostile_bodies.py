import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from distributed_downloader.codec.images import encode
from distributed_downloader.records import Encoded, ErrorClass, Failed
from tests.unit.codec.pictures import (
    SETTINGS,
    encoded,
    picture,
    pillow_may_warn,
    refused,
    saved,
    wanting,
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty"),
        (b" \r\n ", "white space"),
        (b"<!DOCTYPE html><html><p>Not found", "an HTML page"),
        (b"\xef\xbb\xbf\n <html lang=en>", "an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML document"),
        (b'{"error": "no such image"}', "JSON"),
        (b"BMW is a maker of cars, not a bitmap", "text (BMW is a maker"),
        (b"Rate limit\nexceeded", "text (Rate limit exceeded)"),
        (b"%PDF-1.4\n", "PDF"),
        (b"PK\3\4rest", "a ZIP archive"),
        (b"\0\0\0\x18ftypisom\0\0\2\0", "a video"),
        (b"\x01\x02\x03", "unknown bytes (01 02 03)"),
    ],
)
def test_what_is_no_image_says_what_it_looks_like(body, message):
    outcome = refused(body)
    assert outcome.error_class is ErrorClass.NOT_AN_IMAGE
    assert message in outcome.error_msg


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\0\0\1\0\1\0", "ICO"),
        (b"P6\n# made by hand\n2 2\n255\n", "Netpbm"),
        (b'<svg xmlns="http://www.w3.org/2000/svg">', "SVG"),
        (b'<?xml version="1.0"?>\n<!-- hi --><svg>', "SVG"),
    ],
)
def test_images_of_other_formats_are_named(body, name):
    outcome = refused(body)
    assert outcome.error_class is ErrorClass.UNSUPPORTED_FORMAT
    assert outcome.error_msg.startswith(name)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("size", [0, 64, 2000])
def test_truncated_images_are_corrupt(name, share, size):
    image = Image.effect_noise((300, 200), 60).convert("RGB")
    body = saved(image, name)
    outcome = refused(body[: int(len(body) * share)], image_size=size)
    assert outcome.error_class is ErrorClass.CORRUPT_IMAGE


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1_000_000)))
        + chunk(b"IEND", b"")
    )


def jpeg_bomb(width, height):
    body = bytearray(saved(picture()))
    at = body.index(b"\xff\xc0")
    body[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(body)


def webp_bomb(width, height):
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x30\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + sizes + bytes(20)


def gif_bomb(width, height):
    body = saved(picture(size=(8, 8)), "GIF")
    return body[:6] + struct.pack("<HH", width, height) + body[10:]


@pytest.mark.parametrize(
    "body",
    [
        png_bomb(200_000, 200_000),
        png_bomb(2_001, 2_000),
        jpeg_bomb(65_000, 65_000),
        webp_bomb(1 << 24, 1 << 8),
        gif_bomb(65_535, 65_535),
    ],
)
def test_too_many_pixels_are_refused_by_the_header(body):
    outcome = refused(body)
    assert outcome.error_class is ErrorClass.TOO_MANY_PIXELS
    assert "images.max_pixels (4000000)" in outcome.error_msg


def test_the_limit_is_ours_not_pillows():
    outcome = encoded(saved(Image.new("L", (20_000, 10_000)), "PNG"), max_pixels=200_000_000)
    assert outcome.original_size == (10_000, 20_000)


def test_a_tile_larger_than_the_limit_is_refused():
    buffer = io.BytesIO()
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 322: 60_000, 323: 60_000}.items():
        ifd[tag] = value
    ifd[324], ifd[325] = 8, 1
    buffer.write(b"II*\0\x08\0\0\0")
    ifd.save(buffer)
    assert refused(buffer.getvalue()).error_class is ErrorClass.TOO_MANY_PIXELS


SIGNATURES = [
    b"",
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"GIF89a",
    b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
    b"II*\0\x08\0\0\0",
    b"MM\0*",
    b"RIFF\x30\0\0\0WEBPVP8X",
    b"RIFF\x30\0\0\0WEBPVP8 ",
]


@pillow_may_warn
@given(st.sampled_from(SIGNATURES), st.binary(max_size=300), st.sampled_from([0, 64]))
def test_random_bytes_are_a_value_not_an_exception(signature, junk, size):
    outcome = encode(signature + junk, wanting(image_size=size))
    assert isinstance(outcome, Failed | Encoded)


WHOLE = [saved(picture(size=(90, 70)), name) for name in ("JPEG", "PNG", "GIF", "TIFF", "WEBP")]


@pillow_may_warn
@given(st.sampled_from(WHOLE), st.data())
def test_damaged_images_are_a_value_not_an_exception(body, data):
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(body) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    assert isinstance(encode(bytes(damaged), SETTINGS), Failed | Encoded)
