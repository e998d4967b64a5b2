"""Pixels: from a decoder to the shape, the size and the colours that are stored."""

import math
from dataclasses import dataclass

from PIL import Image
from PIL.ImageFile import ImageFile

from distributed_downloader.settings import Images

GAP = 2.0  # what the last filter reduces by, at least, when cruder steps went before

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {5, 6, 7, 8}
_FILTERED_AS = {"1": "L", "P": "RGB", "La": "LA", "RGBa": "RGBA", "HSV": "RGB", "LAB": "RGB"}
_DEEP_MODES = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}

Size = tuple[int, int]  # (width, height), as Pillow has it; tables have (height, width)


def turned(size: Size, turn: int) -> Size:
    """The size after the turn that an EXIF orientation asks for."""
    return (size[1], size[0]) if turn in _SIDEWAYS else size


def turn_image(image: Image.Image, turn: int) -> Image.Image:
    """The image turned upright from an EXIF orientation."""
    return image.transpose(TURNS[turn]) if turn in TURNS else image


@dataclass(frozen=True, slots=True)
class Shape:
    """What becomes of an upright image: scaled, then cut or laid on a canvas of the final size."""

    scaled: Size
    final: Size

    def cut(self, image: Image.Image) -> Image.Image:
        """The scaled image in its final size, centred; what is beyond it becomes white."""
        if image.size == self.final:
            return image
        left, top = ((has - wants) // 2 for has, wants in zip(image.size, self.final, strict=True))
        if left >= 0 and top >= 0:
            return image.crop((left, top, left + self.final[0], top + self.final[1]))
        image = plain_colours(image)
        canvas = Image.new(image.mode, self.final, "white")
        canvas.paste(image, (-left, -top))
        return canvas


def shape_of(size: Size, settings: Images) -> Shape:
    """What `images.mode` and `image_size` make of an upright size; nothing is ever enlarged."""
    side = settings.image_size
    if side == 0:
        return Shape(size, size)
    by_shortest = settings.mode in {"shortest_side", "center_crop"}
    scale = min(1.0, side / (min(size) if by_shortest else max(size)))
    scaled = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    match settings.mode:
        case "center_crop":
            return Shape(scaled, (min(side, scaled[0]), min(side, scaled[1])))
        case "pad":
            return Shape(scaled, (side, side))
    return Shape(scaled, scaled)


def reduce_jpeg(image: ImageFile, least: Size) -> tuple[float, float]:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8, not under `least`; its size, to a fraction."""
    drafted = image.draft(None, least) if image.format == "JPEG" else None
    return drafted[1][2:] if drafted else image.size


def scaled(image: ImageFile, size: Size) -> Image.Image:
    """Decode, in 8 bits a channel, and scale: crudely at first, the last factor of GAP finely."""
    least = (math.ceil(size[0] * GAP), math.ceil(size[1] * GAP))
    width, height = reduce_jpeg(image, least)
    image.load()
    pixels = _eight_bits(image)
    factor = min(int(width / least[0]), int(height / least[1]))
    if factor > 1:
        pixels = pixels.reduce(factor)
        width, height = width / factor, height / factor
    if pixels.size == size:
        return pixels
    return pixels.resize(size, Image.Resampling.LANCZOS, box=(0, 0, width, height))


def _eight_bits(image: Image.Image) -> Image.Image:
    """The same picture in a mode that can be filtered: no palette, no deep or binary samples."""
    if image.mode in _DEEP_MODES:
        return _squeezed(image)
    if image.mode == "PA" or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert(_FILTERED_AS[image.mode]) if image.mode in _FILTERED_AS else image


def _squeezed(image: Image.Image) -> Image.Image:
    """Deep samples as 8 bits: 16-bit ones by their range, others by what the image holds."""
    deep = image.convert("F")
    low, high = deep.getextrema()
    if not (isinstance(low, float) and isinstance(high, float) and math.isfinite(high - low)):
        raise ValueError("its samples are no numbers")
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    elif low >= 0:
        low, high = 0.0, next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)
    scale = 255.0 / ((high - low) or 1.0)
    return deep.point(lambda sample: sample * scale - low * scale).convert("L")


def plain_colours(image: Image.Image) -> Image.Image:
    """Grey or RGB, with or without transparency."""
    return image if image.mode in {"L", "LA", "RGB", "RGBA"} else image.convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    """An image with transparency, laid on white."""
    white = Image.new("L" if image.mode == "LA" else "RGB", image.size, "white")
    white.paste(image.convert(white.mode), mask=image.getchannel("A"))
    return white
