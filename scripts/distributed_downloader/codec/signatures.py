"""What a body is, told from its first bytes: an allowed image, another kind of image, or neither.

The allow-list is short on purpose: every decoder is a way in for hostile bytes, so a body reaches
only the one decoder that its signature names.
"""

import re
import struct

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

DECODERS: dict[str, type[ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}

_BMP_HEADER_SIZES = {12, 40, 52, 56, 64, 108, 124}

_ALLOWED = (
    ("jpeg", (b"\xff\xd8\xff",)),
    ("png", (b"\x89PNG\r\n\x1a\n",)),
    ("gif", (b"GIF87a", b"GIF89a")),
    ("tiff", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
)

_OTHER_IMAGES = (
    ("JPEG 2000", (b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")),
    ("JPEG XL", (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    ("ICO", (b"\0\0\1\0",)),
    ("Photoshop", (b"8BPS",)),
    ("JPEG XR", (b"II\xbc",)),
    ("DjVu", (b"AT&TFORM",)),
    ("QOI", (b"qoif",)),
    ("OpenEXR", (b"v/1\1",)),
    ("DDS", (b"DDS ",)),
    ("FITS", (b"SIMPLE  =",)),
    ("GIMP", (b"gimp xcf",)),
    ("Radiance", (b"#?RADIANCE",)),
    ("ICNS", (b"icns",)),
    ("PostScript", (b"%!PS",)),
    ("Olympus raw", (b"IIRO", b"IIRS", b"MMOR")),
    ("Panasonic raw", (b"IIU\0",)),
    ("Fujifilm raw", (b"FUJIFILMCCD-RAW",)),
)

_NO_IMAGES = (
    ("PDF", (b"%PDF",)),
    ("a ZIP archive", (b"PK\3\4", b"PK\5\6")),
    ("gzip data", (b"\x1f\x8b",)),
    ("JSON", (b"{", b"[")),
)

_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"crx ": "Canon raw",
}


def _starting(head: bytes, table: tuple[tuple[str, tuple[bytes, ...]], ...]) -> str | None:
    return next((name for name, signatures in table if head.startswith(signatures)), None)


def allowed_format(body: bytes) -> str | None:
    """The key of DECODERS whose signature the body carries; None if it carries none."""
    head = body[:32]
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    # Any text may start with "BM": the size of the second header says whether it is a bitmap.
    if head[8:10] == b"CR" and head.startswith(b"II*\0"):
        return None  # a raw photo: what a TIFF decoder finds in it is a small preview
    if head.startswith(b"BM") and len(head) >= 18:
        return "bmp" if struct.unpack_from("<I", head, 14)[0] in _BMP_HEADER_SIZES else None
    return _starting(head, _ALLOWED)


def other_image_format(body: bytes) -> str | None:
    """The name of an image format that is not allowed; None if it is no image that we know."""
    head = body[:1024]
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12])
    if head[8:10] == b"CR" and head.startswith(b"II*\0"):
        return "Canon raw"
    if head[128:132] == b"DICM":
        return "DICOM"
    if re.match(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<!DOCTYPE svg[^>]*>\s*)*<svg\b", head, re.S):
        return "SVG"
    if re.match(rb"P[1-7]\s+(#[^\n]*\n)?\s*\d+\s+\d+\s", head):
        return "Netpbm"
    return _starting(head, _OTHER_IMAGES)


def looks_like(body: bytes) -> str:
    """What a body that is no image looks like, for a person."""
    text = body[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = text.lower()
    if not text:
        return "nothing: the body is empty" if not body else "white space"
    if lower.startswith((b"<!doctype html", b"<html")) or re.search(rb"<(head|body)[\s>]", lower):
        return "an HTML page"
    if lower.startswith(b"<?xml"):
        return "an XML document"
    if body[4:8] == b"ftyp":
        return "a video"
    return _starting(text, _NO_IMAGES) or _text_or_bytes(text)


def _text_or_bytes(text: bytes) -> str:
    if not all(byte >= 32 or byte in b"\t\r\n\f\x1b" for byte in text) or b"\x7f" in text:
        return f"unknown bytes ({text[:8].hex(' ')})"
    start = text[:60].decode("utf-8", "replace")
    return f"text ({' '.join(start.split())})"


def webp_canvas(body: bytes) -> tuple[int, int]:
    """(width, height) that a WebP header claims: Pillow allocates the canvas when it opens one.

    https://developers.google.com/speed/webp/docs/riff_container, "Extended file format".
    """
    kind = body[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(body[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    return width, height


def tiff_entries(body: bytes) -> int:
    """Entries of the first directory, as it says (TIFF 6.0, section 2; BigTIFF); 0 if it is cut."""
    order = "<" if body[:2] == b"II" else ">"
    is_big = body[2:4] in (b"+\0", b"\0+")
    try:
        (at,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", body, 8 if is_big else 4)
        return int(struct.unpack_from(f"{order}{'Q' if is_big else 'H'}", body, at)[0])
    except (struct.error, OverflowError):
        return 0
