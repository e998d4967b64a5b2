"""The readable EXIF tags of an image as a short JSON text.

EXIF comes from strangers: any part of it may be wrong, endless or a trap, and none of that may cost
the image. What cannot be read or said in a few words is left out.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import ExifTags
from PIL.Image import Exif

MAX_JSON_CHARS = 8_000
MAX_TEXT_CHARS = 500
MAX_ITEMS = 16

_IFDS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_LAYOUT_TAGS = {273, 278, 279, 320, 322, 323, 324, 325, 513, 514}  # where the pixels lie


def exif_json(exif: Exif) -> str | None:
    """Such as `{"Model": "X100", "GPSLatitude": [52.0, 31.0, 2.5]}`; None if there is nothing."""
    said: dict[str, Any] = {}
    room = MAX_JSON_CHARS
    for name, value in _tags(exif):
        room -= len(json.dumps({name: value}))
        if room < 0:
            break
        said[name] = value
    return json.dumps(said) if said else None


def _tags(exif: Exif) -> Iterator[tuple[str, Any]]:
    yield from _named(exif, ExifTags.TAGS)
    for ifd in _IFDS:
        try:
            tags = exif.get_ifd(ifd)
        except Exception:  # whatever Pillow makes of hostile bytes: no tags
            continue
        yield from _named(tags, ExifTags.GPSTAGS if ifd is ExifTags.IFD.GPSInfo else ExifTags.TAGS)


def _named(tags: Mapping[int, Any], names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    for tag in list(tags):
        if tag in _IFDS or tag in _LAYOUT_TAGS or tag not in names:
            continue
        try:
            value = _plain(tags[tag])
        except Exception:  # tags are decoded when asked for, by the same bytes
            continue
        if value is not None:
            yield names[tag], value


def _plain(value: Any) -> Any:
    """The value as JSON can say it; None if it cannot, or not shortly."""
    match value:
        case bool() | int():
            return value if abs(value) < 2**63 else None
        case str():
            return _short_text(value)
        case bytes():
            return _short_text(value.decode("ascii")) if value.isascii() else None
        case tuple() | list():
            items = [_plain(item) for item in value] if len(value) <= MAX_ITEMS else []
            return items if items and None not in items else None
        case Mapping():
            return None
    number = float(value)
    return round(number, 9) if math.isfinite(number) else None


def _short_text(text: str) -> str | None:
    text = text.replace("\0", " ").strip()
    return text if text and len(text) <= MAX_TEXT_CHARS and text.isprintable() else None
