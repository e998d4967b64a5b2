import io

import pytest
from PIL import Image, ImageCms

from tests.unit.codec.pictures import GREEN, RED, encoded, is_near, opened, picture, saved


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


def test_a_large_jpeg_looks_as_if_it_had_been_scaled_in_one_step():
    image = Image.effect_mandelbrot((1600, 1200), (-2, -1.2, 1, 1.2), 60).convert("RGB")
    body = saved(image, quality=95)
    best = Image.open(io.BytesIO(body)).resize((64, 48), Image.Resampling.LANCZOS)
    found = opened(encoded(body, format="png"))
    gaps = [abs(a - b) for a, b in zip(best.tobytes(), found.tobytes(), strict=True)]
    assert sum(gaps) / len(gaps) < 3
