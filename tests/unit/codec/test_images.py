import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from distributed_downloader.codec.images import encode
from distributed_downloader.records import Encoded, ErrorClass
from tests.unit.codec.pictures import (
    GREEN,
    RED,
    SETTINGS,
    encoded,
    is_near,
    opened,
    picture,
    refused,
    saved,
)


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


def test_nothing_of_the_file_but_the_picture_is_copied():
    body = saved(picture(), comment=b"a secret", icc_profile=b"\0" * 500)
    assert b"a secret" not in encoded(body).data
    assert b"ICC_PROFILE" not in encoded(body).data


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
