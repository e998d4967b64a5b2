import io

import imagehash
import numpy as np
import pytest
from PIL import Image

from distributed_downloader.fleet.photos import photo
from distributed_downloader.likeness.perceptual import MIN_CONTRAST, likeness_of


def picture(name="a", kind="small"):
    return Image.open(io.BytesIO(photo(name, kind))).convert("RGB")


def recoded(image, form="JPEG", **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return Image.open(io.BytesIO(out.getvalue()))


def distance(one, other):
    hashes = [imagehash.hex_to_hash(likeness_of(image).phash) for image in (one, other)]
    return hashes[0] - hashes[1]


COPIES = {
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "a worse JPEG": lambda image: recoded(image, quality=40),
    "a WebP": lambda image: recoded(image, "WEBP", quality=60),
    "a palette": lambda image: image.quantize(64),
    "with an alpha channel": lambda image: image.convert("RGBA"),
    "gray": lambda image: image.convert("L"),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_a_copy_is_near(copy):
    image = picture()
    assert distance(image, copy(image)) <= 4


def test_another_image_is_far():
    assert distance(picture("a"), picture("b")) > 12


def test_a_copy_that_an_exif_tag_turns_is_near():
    image = picture()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned = recoded(image.transpose(Image.Transpose.ROTATE_90), exif=exif)
    assert distance(image, turned) <= 4


def test_the_hash_is_the_one_of_imagehash():
    image = picture()
    assert imagehash.hex_to_hash(likeness_of(image).phash) - imagehash.phash(image) == 0


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_image_of_one_colour_has_no_contrast(level):
    noise = np.random.default_rng(1).integers(-3, 4, (60, 80))
    page = np.clip(level + noise, 0, 255).astype(np.uint8)
    assert likeness_of(Image.fromarray(page)).contrast < MIN_CONTRAST
    assert likeness_of(picture()).contrast > 5 * MIN_CONTRAST
