"""The perceptual hash of an image: 64 bits that a resized or re-encoded copy shares, nearly.

It is imagehash's phash, in hex (`imagehash.hex_to_hash` reads it): a copy differs in few bits, any
other image in about half of them. An image without contrast (a blank page, a placeholder of one
colour) hashes to its noise: such a hash says nothing.
"""

from dataclasses import dataclass

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

MIN_CONTRAST = 2.0  # standard deviation of gray levels (0 to 255) below which nothing is shown
_SIDE = 32  # pixels: what phash looks at


@dataclass(frozen=True, slots=True)
class Likeness:
    """What an image looks like."""

    phash: str  # 16 hex digits
    contrast: float  # standard deviation of the gray levels of the image at 32 x 32 pixels


def likeness_of(image: Image.Image) -> Likeness:
    """Look at a decoded image, turned upright as its EXIF orientation says."""
    upright = ImageOps.exif_transpose(image)
    seen = upright.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return Likeness(str(imagehash.phash(seen)), float(np.asarray(seen).std()))


def bits_of(hashes: list[str]) -> npt.NDArray[np.uint64]:
    """Hashes of 16 hex digits as numbers."""
    return np.array([int(text, 16) for text in hashes], dtype=np.uint64)
