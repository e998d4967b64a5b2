from collections import Counter
from io import BytesIO

import pytest
from PIL import Image

from distributed_downloader.fleet.photos import (
    ORIENTATION_TAG,
    PhotoSpec,
    encode_photo,
    photo,
    photo_spec,
)

NAMES = [f"museum.test/{index}" for index in range(400)]
SPECS = [photo_spec(name) for name in NAMES]


def test_same_name_gives_the_same_bytes():
    assert photo("a/1") == photo("a/1")


@pytest.mark.parametrize("kind", ["small", "tiny"])
def test_no_two_names_give_the_same_bytes(kind):
    photos = {photo(name, kind) for name in NAMES}
    assert len(photos) == len(NAMES)


def test_two_photos_differ_in_their_pixels_and_not_in_their_metadata_only():
    pixels = {Image.open(BytesIO(photo(name, "tiny"))).tobytes() for name in NAMES[:100]}
    assert len(pixels) == 100


@pytest.mark.parametrize(
    "spec",
    [
        PhotoSpec("a", 640, 480, "JPEG"),
        PhotoSpec("b", 480, 640, "JPEG", orientation=6),
        PhotoSpec("c", 600, 400, "JPEG", "CMYK"),
        PhotoSpec("d", 600, 400, "JPEG", "L"),
        PhotoSpec("e", 300, 200, "PNG"),
        PhotoSpec("f", 300, 200, "WEBP"),
        PhotoSpec("g", 300, 200, "GIF"),
        PhotoSpec("h", 3000, 2250, "JPEG"),
        PhotoSpec("i", 2250, 3000, "JPEG"),
        PhotoSpec("j", 96, 64, "JPEG"),
    ],
    ids=lambda spec: spec.name,
)
def test_photo_is_what_its_spec_says(spec):
    image = Image.open(BytesIO(encode_photo(spec)))
    image.load()
    assert image.size == (spec.width, spec.height)
    assert image.format == spec.format
    if spec.format == "JPEG":
        assert image.mode == spec.mode
        assert image.getexif().get(ORIENTATION_TAG) == spec.orientation


def test_real_photos_have_real_sizes():
    longest = sorted(max(spec.width, spec.height) for spec in SPECS if spec.format == "JPEG")
    assert longest[0] >= 96
    assert longest[-1] <= 3000
    assert sum(side > 500 for side in longest) > 0.8 * len(longest)


def test_real_photos_weigh_what_photos_on_the_web_do():
    large = [spec for spec in SPECS if spec.format == "JPEG" and spec.width > 500][:60]
    weights = sorted(len(encode_photo(spec)) for spec in large)
    assert weights[0] > 35_000
    assert weights[-1] < 600_000
    assert 80_000 < weights[30] < 300_000


def test_real_photos_have_the_variety_that_real_lists_have():
    formats = Counter(spec.format for spec in SPECS)
    assert formats.keys() == {"JPEG", "PNG", "WEBP", "GIF"}
    assert formats["JPEG"] > 0.8 * len(SPECS)
    assert {spec.orientation for spec in SPECS} == {1, 3, 6, 8}
    assert {spec.mode for spec in SPECS} == {"RGB", "L", "CMYK"}
    assert any(max(spec.width, spec.height) <= 224 for spec in SPECS)
