"""Pictures in red and green as bodies, and what the codec makes of a body."""

import dataclasses
import io

import pytest
from PIL import Image

from distributed_downloader.codec.images import encode
from distributed_downloader.records import CONTENT_CODE, Encoded, Failed
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


pillow_may_warn = pytest.mark.filterwarnings("ignore::UserWarning")
