import dataclasses
import hashlib
import io
import json
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, TiffTags

from distributed_downloader.codec.exif import MAX_JSON_CHARS
from distributed_downloader.codec.images import encode
from distributed_downloader.records import CONTENT_CODE, Encoded, ErrorClass, Failed
from distributed_downloader.settings import Images

SETTINGS = Images(
    image_size=64,
    mode="longest_side",
    format="jpeg",
    quality=90,
    keep_original=False,
    max_bytes=10_000_000,
    max_pixels=4_000_000,
    max_decoder_bytes=800_000_000,
)
RED, GREEN = (220, 30, 30), (30, 200, 60)


def wanting(**changes):
    return dataclasses.replace(SETTINGS, **changes)


def picture(mode="RGB", size=(160, 120)):
    """Red on the left, green on the right (as far as the mode can say it)."""
    image = Image.new("RGB", size, RED)
    image.paste(GREEN, (size[0] // 2, 0, *size))
    return image if mode == "RGB" else image.convert(mode)


def saved(image, name="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def encoded(body, **changes):
    outcome = encode(body, wanting(**changes))
    assert isinstance(outcome, Encoded), outcome
    return outcome


def refused(body, **changes):
    outcome = encode(body, wanting(**changes))
    assert isinstance(outcome, Failed), outcome
    assert outcome.error_code == CONTENT_CODE
    assert not outcome.retryable
    return outcome


def opened(outcome):
    image = Image.open(io.BytesIO(outcome.data))
    image.load()
    return image


def is_near(pixel, colour, by=40):
    return all(abs(a - b) <= by for a, b in zip(pixel, colour, strict=True))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "MPO"])
@pytest.mark.parametrize("wanted", ["jpeg", "png", "webp"])
def test_allowed_formats_become_the_wanted_one(name, wanted):
    outcome = encoded(saved(picture(), name), format=wanted)
    image = opened(outcome)
    assert image.format == wanted.upper()
    assert image.size == (64, 48)
    assert outcome.original_size == (120, 160)
    assert outcome.resized_size == (48, 64)
    assert is_near(image.convert("RGB").getpixel((8, 24)), RED)
    assert is_near(image.convert("RGB").getpixel((56, 24)), GREEN)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
        ("LAB", "TIFF"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("P", "BMP"),
        ("RGBA", "PNG"),
        ("RGBA", "WEBP"),
        ("RGBA", "TIFF"),
    ],
)
def test_colour_modes_keep_their_colours(mode, name):
    if mode == "LAB":
        image = Image.merge("LAB", [c.resize((160, 120)) for c in lab_halves()])
    else:
        image = picture(mode)
    small = opened(encoded(saved(image, name)))
    assert small.mode == "RGB"
    assert is_near(small.getpixel((8, 24)), RED)
    assert is_near(small.getpixel((56, 24)), GREEN)


def lab_halves():
    return ImageCms.profileToProfile(
        picture(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    ).split()


@pytest.mark.parametrize(
    ("mode", "name", "white"),
    [
        ("L", "JPEG", 255),
        ("1", "PNG", 1),
        ("I;16", "PNG", 65535),
        ("I;16", "TIFF", 65535),
        ("F", "TIFF", 1.0),
        ("I", "TIFF", 65535),
        ("I;16B", "TIFF", 65535),
        ("LA", "PNG", (255, 255)),
    ],
)
def test_grey_modes_keep_black_and_white(mode, name, white):
    image = Image.new(mode, (160, 120), (0, 255) if mode == "LA" else 0)
    image.paste(white, (80, 0, 160, 120))
    small = opened(encoded(saved(image, name)))
    assert small.mode == "L"
    assert small.getpixel((8, 24)) < 10
    assert small.getpixel((56, 24)) > 245


def test_sixteen_bits_are_scaled_by_their_range_not_by_the_image():
    image = Image.new("I;16", (100, 100), 0x2000)
    assert opened(encoded(saved(image, "PNG"))).getpixel((5, 5)) == pytest.approx(0x20, abs=2)


@pytest.mark.parametrize("name", ["PNG", "WEBP", "GIF"])
def test_transparency_is_laid_on_white_for_jpeg(name):
    image = Image.new("RGBA", (160, 120), (0, 0, 0, 0))
    image.paste((*RED, 255), (80, 0, 160, 120))
    small = opened(encoded(saved(image, name)))
    assert is_near(small.getpixel((8, 24)), (255, 255, 255), 6)
    assert is_near(small.getpixel((56, 24)), RED)


@pytest.mark.parametrize("wanted", ["png", "webp"])
def test_transparency_is_kept_where_the_format_can(wanted):
    image = Image.new("RGBA", (160, 120), (0, 0, 0, 0))
    assert opened(encoded(saved(image, "PNG"), format=wanted)).getpixel((5, 5))[3] == 0


def test_transparent_palettes_are_laid_on_white():
    image = picture().quantize(4)
    body = saved(image, "PNG", transparency=image.getpixel((5, 5)))
    small = opened(encoded(body))
    assert is_near(small.getpixel((8, 24)), (255, 255, 255), 6)
    assert is_near(small.getpixel((56, 24)), GREEN)


def with_orientation(turn, name="JPEG", size=(160, 120), **options):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    return saved(picture(size=size), name, exif=exif, **options)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("turn", "size", "red_at", "green_at"),
    [
        (1, (64, 48), (5, 24), (59, 24)),
        (2, (64, 48), (59, 24), (5, 24)),
        (3, (64, 48), (59, 24), (5, 24)),
        (4, (64, 48), (5, 24), (59, 24)),
        (5, (48, 64), (24, 5), (24, 59)),
        (6, (48, 64), (24, 5), (24, 59)),
        (7, (48, 64), (24, 59), (24, 5)),
        (8, (48, 64), (24, 59), (24, 5)),
    ],
)
def test_images_are_stored_upright(name, turn, size, red_at, green_at):
    outcome = encoded(with_orientation(turn, name))
    image = opened(outcome)
    assert image.size == size
    assert outcome.original_size == ((120, 160) if turn < 5 else (160, 120))
    assert is_near(image.getpixel(red_at), RED)
    assert is_near(image.getpixel(green_at), GREEN)
    assert ExifTags.Base.Orientation not in image.getexif()


def test_a_small_image_on_its_side_is_turned_not_kept():
    body = with_orientation(6, size=(32, 24))
    outcome = encoded(body)
    assert outcome.data != body
    assert outcome.resized_size == (32, 24)


def test_a_turn_that_does_not_exist_is_ignored():
    assert encoded(with_orientation(77)).resized_size == (48, 64)


@pytest.mark.parametrize(
    ("mode", "size", "resized"),
    [
        ("longest_side", (640, 320), (32, 64)),
        ("longest_side", (40, 20), (20, 40)),
        ("longest_side", (4000, 10), (1, 64)),
        ("shortest_side", (640, 320), (64, 128)),
        ("shortest_side", (640, 40), (40, 640)),
        ("center_crop", (640, 320), (64, 64)),
        ("center_crop", (40, 20), (20, 40)),
        ("center_crop", (640, 40), (40, 64)),
        ("pad", (640, 320), (64, 64)),
        ("pad", (40, 20), (64, 64)),
    ],
)
@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_the_mode_decides_the_shape(mode, size, resized, name):
    outcome = encoded(saved(picture(size=size), name), mode=mode)
    assert outcome.resized_size == resized
    assert opened(outcome).size == resized[::-1]


def test_padding_is_white_and_even():
    image = opened(encoded(saved(picture(size=(640, 320))), mode="pad"))
    assert is_near(image.getpixel((32, 4)), (255, 255, 255), 6)
    assert is_near(image.getpixel((32, 60)), (255, 255, 255), 6)
    assert is_near(image.getpixel((5, 32)), RED)


@pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
def test_an_image_that_is_as_wanted_keeps_its_bytes(name):
    body = saved(picture(size=(64, 30)), name.upper())
    outcome = encoded(body, format=name, keep_original=True)
    assert outcome.data is body
    assert outcome.original is None
    assert outcome.hashsum_original == outcome.hashsum_resized == hashlib.md5(body).hexdigest()


def test_an_animation_does_not_keep_its_bytes():
    frames = [picture(size=(30, 30)), picture("L", (30, 30)).convert("RGB")]
    body = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=100)
    assert encoded(body, format="webp").data != body


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
def test_size_zero_keeps_every_byte_and_measures(name):
    body = saved(picture(size=(500, 300)), name)
    outcome = encoded(body, image_size=0)
    assert outcome.data is body
    assert outcome.original_size == outcome.resized_size == (300, 500)


def test_size_zero_still_looks_whether_it_can_be_decoded():
    body = saved(picture(size=(500, 300)))
    assert refused(body[: len(body) // 2], image_size=0).error_class is ErrorClass.CORRUPT_IMAGE


def test_the_original_is_kept_when_asked_for():
    body = saved(picture())
    outcome = encoded(body, keep_original=True)
    assert outcome.original is body
    assert outcome.hashsum_original == hashlib.md5(body).hexdigest()
    assert outcome.hashsum_resized == hashlib.md5(outcome.data).hexdigest()
    assert encoded(body).original is None


def test_a_large_jpeg_looks_as_if_it_had_been_scaled_in_one_step():
    image = Image.effect_mandelbrot((1600, 1200), (-2, -1.2, 1, 1.2), 60).convert("RGB")
    body = saved(image, quality=95)
    best = Image.open(io.BytesIO(body)).resize((64, 48), Image.Resampling.LANCZOS)
    found = opened(encoded(body, format="png"))
    gaps = [abs(a - b) for a, b in zip(best.tobytes(), found.tobytes(), strict=True)]
    assert sum(gaps) / len(gaps) < 3


def test_nothing_of_the_file_but_the_picture_is_copied():
    body = saved(picture(), comment=b"a secret", icc_profile=b"\0" * 500)
    assert b"a secret" not in encoded(body).data
    assert b"ICC_PROFILE" not in encoded(body).data


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


@pytest.mark.parametrize(
    ("kind", "promise", "kept"),
    [
        ("md5", None, True),
        ("sha512", " ", True),
        ("md5", lambda body: hashlib.md5(body).hexdigest(), True),
        ("sha256", lambda body: hashlib.sha256(body).hexdigest().upper(), True),
        ("sha512", lambda body: "sha512:" + hashlib.sha512(body).hexdigest(), True),
        ("sha256", lambda body: hashlib.md5(body).hexdigest(), False),
        ("md5", "0" * 32, False),
        ("md5", "not a hash", False),
    ],
)
def test_a_promised_hash_is_checked(kind, promise, kept):
    body = saved(picture())
    promised = promise(body) if callable(promise) else promise
    outcome = encode(body, SETTINGS, expected_hash=promised, hash_kind=kind)
    assert isinstance(outcome, Encoded) is kept
    if not kept:
        assert outcome.error_class is ErrorClass.HASH_MISMATCH
        assert f"the {kind} of what came is " in outcome.error_msg


def test_exif_is_told_as_json():
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "X100\0"
    exif[ExifTags.Base.Orientation] = 1
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] = 400
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 2.5)
    said = json.loads(encoded(saved(picture(), exif=exif)).exif)
    assert said["Model"] == "X100"
    assert said["ISOSpeedRatings"] == 400
    assert said["GPSLatitude"] == [52.0, 31.0, 2.5]
    assert encoded(saved(picture())).exif is None


def test_exif_is_never_long():
    exif = Image.Exif()
    for tag in (tag for tag in ExifTags.TAGS if TiffTags.lookup(tag).type is None):
        exif[tag] = "x" * 400
    exif[ExifTags.Base.ImageDescription] = "y" * 20_000
    said = encoded(saved(picture(), "PNG", exif=exif)).exif
    assert MAX_JSON_CHARS / 2 < len(said) <= MAX_JSON_CHARS
    assert "yyyy" not in said


pillow_may_warn = pytest.mark.filterwarnings("ignore::UserWarning")


@pillow_may_warn
@given(st.binary(max_size=300))
def test_hostile_exif_never_costs_the_image(junk):
    body = saved(picture(size=(80, 60)), exif=b"Exif\0\0" + junk)
    outcome = encode(body, SETTINGS)
    assert isinstance(outcome, Encoded)
    assert outcome.exif is None or json.loads(outcome.exif)


@pillow_may_warn
@given(st.binary(max_size=400))
def test_hostile_tiff_headers_in_exif_never_cost_the_image(junk):
    body = saved(picture(size=(80, 60)), exif=b"Exif\0\0II*\0\x08\0\0\0" + junk)
    assert isinstance(encode(body, SETTINGS), Encoded)


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


def test_an_unstorable_shape_is_a_fault_of_ours():
    outcome = refused(saved(Image.new("L", (17_000, 8)), "PNG"), image_size=17_000, format="webp")
    assert outcome.error_class is ErrorClass.INTERNAL


def test_threads_do_not_disturb_one_another():
    bodies = [
        saved(picture(size=(100 + i, 90)), name) for i in range(20) for name in ("JPEG", "PNG")
    ]
    alone = [encode(body, SETTINGS) for body in bodies]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda body: encode(body, SETTINGS), bodies)) == alone


def test_warnings_of_pillow_neither_show_nor_cost_an_image():
    """In a process of its own: pytest's filters would win over ours here."""
    code = """
import io, sys
from PIL import Image
from distributed_downloader.codec.images import encode
from distributed_downloader.settings import Images
image = Image.new("RGB", (80, 60)); buffer = io.BytesIO()
image.save(buffer, "PNG"); body = buffer.getvalue()
bad = b"\\0\\0\\0\\x08acTL" + b"\\0" * 12  # no frames: Pillow warns that this is no APNG
body = body[:33] + bad[:-4] + __import__("zlib").crc32(bad[4:-4]).to_bytes(4, "big") + body[33:]
images = Images(64, "longest_side", "jpeg", 90, False, 10**6, 10**6, 10**9)
print(type(encode(body, images)).__name__)
"""
    scripts = Path(__file__).parents[3] / "scripts"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(scripts), "PATH": ""},
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("Encoded", "")
