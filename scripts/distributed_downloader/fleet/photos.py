"""Photo-like images, made cheaply: the same name gives the same bytes, two names never do.

A few large pictures (hills of colour, grain, shapes) are made once. Each photo is a crop of one of
them with marks of its own, encoded in the format, size and EXIF orientation drawn from its name.
"""

import hashlib
import random
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from threading import Lock

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

BASE_SIDE = 3072  # pixels of the pictures that photos are cut from
BASES = 3
SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"}
ORIENTATION_TAG = 0x0112
_MAKING = Lock()  # a base is made once, however many threads ask for it


@dataclass(frozen=True, slots=True)
class PhotoSpec:
    """What a photo will be; drawn from its name alone, without making it."""

    name: str
    width: int  # pixels as stored, before the EXIF orientation is applied
    height: int
    format: str  # JPEG | PNG | WEBP | GIF
    mode: str = "RGB"  # RGB | L | CMYK
    orientation: int = 1  # EXIF, 1 = upright

    @property
    def suffix(self) -> str:
        """The usual ending of a file of this format."""
        return SUFFIXES[self.format]


def photo_spec(name: str, kind: str = "real") -> PhotoSpec:
    """The photo of this name: `real` sizes (500 to 3,000 pixels), `small` (160 to 400) or `tiny`.

    Of the real ones, about a tenth are not over 224 pixels and a tenth are no JPEG; one in seven
    is turned by its EXIF orientation, one in fifty is gray and one in fifty CMYK.
    """
    draw = random.Random(_seed(name))
    if kind == "tiny":
        return PhotoSpec(name, 48, 32, "JPEG")
    if kind == "small":
        return PhotoSpec(name, *_size(draw, 160, 400), "JPEG")
    return _real(name, draw)


def _real(name: str, draw: random.Random) -> PhotoSpec:
    lot = draw.random()
    if lot < 0.10:
        form = "PNG" if lot < 0.04 else "WEBP" if lot < 0.07 else "GIF"
        return PhotoSpec(name, *_size(draw, 240, 800), form)
    if lot < 0.20:
        return PhotoSpec(name, *_size(draw, 96, 224), "JPEG")
    mode = "CMYK" if lot < 0.22 else "L" if lot < 0.24 else "RGB"
    orientation = draw.choice((3, 6, 8)) if lot > 0.85 else 1
    return PhotoSpec(name, *_size(draw, 500, 3000), "JPEG", mode, orientation)


def _size(draw: random.Random, least: int, most: int) -> tuple[int, int]:
    """Width and height: the longest side evenly on a logarithmic scale, the shape as cameras do."""
    longest = round(least * (most / least) ** draw.random())
    shortest = round(longest * draw.choice((3 / 4, 2 / 3, 3 / 4, 0.8)))
    return (shortest, longest) if draw.random() < 0.25 else (longest, shortest)


def photo(name: str, kind: str = "real") -> bytes:
    """The encoded photo of this name."""
    return encode_photo(photo_spec(name, kind))


def encode_photo(spec: PhotoSpec) -> bytes:
    """The encoded bytes of this photo."""
    image = _picture(spec)
    out = BytesIO()
    if spec.format == "PNG":
        image.save(out, "PNG", compress_level=1)
    elif spec.format == "GIF":
        image.quantize(64, Image.Quantize.FASTOCTREE).save(out, "GIF")
    elif spec.format == "WEBP":
        image.save(out, "WEBP", quality=80, method=0)
    else:
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = spec.orientation
        image.convert(spec.mode).save(out, "JPEG", quality=_quality(spec), exif=exif)
    return out.getvalue()


def _quality(spec: PhotoSpec) -> int:
    """Small photos are kept well and large ones are pressed, as the web does it: 50 to 400 KB."""
    longest = max(spec.width, spec.height)
    return 93 if longest < 900 else 87 if longest < 1600 else 78 if longest < 2200 else 62


def _picture(spec: PhotoSpec) -> Image.Image:
    """The seeded crop of a base picture at the nearest larger scale, with marks of its own."""
    draw = random.Random(_seed(spec.name) + 1)
    base = _base(draw.randrange(BASES), _scale(spec))
    left = draw.randint(0, base.width - spec.width)
    top = draw.randint(0, base.height - spec.height)
    image = base.crop((left, top, left + spec.width, top + spec.height))
    bands = list(image.split())
    draw.shuffle(bands)
    image = Image.merge("RGB", bands)
    _mark(image, draw)
    return image


def _scale(spec: PhotoSpec) -> int:
    """How far the base is reduced before it is cut, so that a small photo still shows something."""
    room = BASE_SIDE // max(spec.width, spec.height)
    return max(scale for scale in (1, 2, 4, 8) if scale <= room)


def _mark(image: Image.Image, draw: random.Random) -> None:
    """Shapes that no other photo has: as many bits as make two photos differ."""
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = draw.randrange(image.width), draw.randrange(image.height)
        reach = draw.randint(2, max(3, min(image.size) // 6))
        colour = (draw.randrange(256), draw.randrange(256), draw.randrange(256))
        shape = draw.choice((pen.ellipse, pen.rectangle))
        shape((x - reach, y - reach, x + reach, y + reach), fill=colour)


def _base(index: int, scale: int) -> Image.Image:
    with _MAKING:
        return _made_base(index, scale)


@cache
def _made_base(index: int, scale: int) -> Image.Image:
    size = (BASE_SIDE // scale, BASE_SIDE // scale)
    rng = np.random.default_rng((index, scale))
    image = Image.blend(
        Image.fromarray(_noise(rng, 10, 10, 3)).resize(size, Image.Resampling.BICUBIC),
        Image.fromarray(_noise(rng, 190, 190, 3)).resize(size, Image.Resampling.BICUBIC),
        0.25,
    )
    grain = Image.fromarray(_noise(rng, *size))
    return Image.blend(image, grain.convert("RGB"), 0.03)


def _noise(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.uint8]:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
