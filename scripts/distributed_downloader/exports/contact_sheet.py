"""A contact sheet: thumbnails in a grid under one line of text."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

SIDE = 128  # pixels of a thumbnail's cell
GAP = 4
COLUMNS = 8
LINE = 24  # pixels of the text's line
QUALITY = 85
_PAPER, _INK = (255, 255, 255), (0, 0, 0)


def thumbnail(image: Image.Image) -> bytes:
    """A small upright JPEG that fits into a cell; never enlarged."""
    small = ImageOps.exif_transpose(image)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return _jpeg(_on_paper(small))


def _on_paper(image: Image.Image) -> Image.Image:
    """Without transparency: on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, (*_PAPER, 255))
    return Image.alpha_composite(paper, clear).convert("RGB")


def contact_sheet(title: str, thumbnails: Sequence[bytes]) -> bytes:
    """A JPEG of these thumbnails, row after row, in the middle of their cells."""
    columns = max(1, min(COLUMNS, len(thumbnails)))
    rows = -(-len(thumbnails) // columns)
    width = max(columns, 3) * (SIDE + GAP) + GAP
    sheet = Image.new("RGB", (width, LINE + rows * (SIDE + GAP) + GAP), _PAPER)
    ImageDraw.Draw(sheet).text((GAP, GAP), title, fill=_INK, font=ImageFont.load_default(14))
    for number, body in enumerate(thumbnails):
        left, top = cell(number, columns)
        image = Image.open(io.BytesIO(body))
        sheet.paste(image, (left + (SIDE - image.width) // 2, top + (SIDE - image.height) // 2))
    return _jpeg(sheet)


def cell(number: int, columns: int) -> tuple[int, int]:
    """Left and top of a thumbnail's cell."""
    row, column = divmod(number, columns)
    return GAP + column * (SIDE + GAP), LINE + GAP + row * (SIDE + GAP)


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
