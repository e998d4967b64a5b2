"""The codec: the bytes of a stranger in, an image as it will be stored out.

Rules
1. A body reaches one decoder, the one its signature names (signatures.DECODERS), or none.
2. Pixels are counted from the header, before any are decoded.
3. An image is stored upright (its EXIF orientation applied), its longest side at most `image_size`
   pixels, never enlarged; `mode` says what else may be done to its shape. Only the first frame.
4. An image that is already so, in the wanted format, keeps its very bytes, unless more is stuffed
   into it than pixels need; `image_size: 0` keeps the bytes of every image. They are decoded all
   the same, so what is stored can be read.
5. Transparency is kept where the format can, else laid on white. Colours become RGB or grey of
   8 bits. Colour profiles and metadata are not copied; readable EXIF goes to the table.
6. An image that is not whole is not stored: what is missing cannot be told from what was grey.
7. Whatever goes wrong is a value (`Failed`, not retryable): nothing is raised.

JPEGs are decoded at a fraction of their size, as far as twice the wanted one is left for the last
filter: a third of the time, and no difference that a person sees.
"""

import hashlib
import io
import re
import warnings

from PIL import Image, TiffImagePlugin
from PIL.ImageFile import ImageFile

from distributed_downloader.codec.exif import exif_json
from distributed_downloader.codec.pixels import (
    TURNS,
    Size,
    on_white,
    plain_colours,
    reduce_jpeg,
    scaled,
    shape_of,
    turn_image,
    turned,
)
from distributed_downloader.codec.signatures import (
    DECODERS,
    allowed_format,
    looks_like,
    other_image_format,
    tiff_entries,
    webp_canvas,
)
from distributed_downloader.records import CONTENT_CODE, Encoded, ErrorClass, Failed
from distributed_downloader.settings import Images
from distributed_downloader.wording import one_line

# Once, for the process: `max_pixels` is checked before decoding, and Pillow's own limit, a global
# that warns or raises by its value of the moment, would only contradict it.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns about broken metadata of images that it reads well: noise, with millions of them.
warnings.filterwarnings("ignore", module=r"PIL\.")

ORIENTATION = 0x0112
METADATA_BYTES = 1_000_000
# Each scan of a progressive JPEG is a walk over all of its pixels, and may be some bytes only. An
# honest one has about ten; inside of a scan its marker cannot occur (ITU-T T.81, B.1.1.2).
SCAN, MOST_SCANS = b"\xff\xda", 100
MOST_ENTRIES = 1_000  # of a TIFF's directory, each of which may point to the whole file
WEBP_BYTES = 16  # of memory that a pixel takes: four buffers, of four bytes each
_HASHES = {"md5": hashlib.md5, "sha256": hashlib.sha256, "sha512": hashlib.sha512}


class _Refused(Exception):  # noqa: N818 - not an error of ours: it carries one value out of here
    def __init__(self, error_class: ErrorClass, message: str) -> None:
        self.failed = Failed(error_class, CONTENT_CODE, one_line(message), retryable=False)


def encode(
    body: bytes, settings: Images, *, expected_hash: str | None = None, hash_kind: str = "md5"
) -> Encoded | Failed:
    """The image as it will be stored, or why there is none. Pure, and safe in any thread.

    `expected_hash` is what the list promises of the bytes received: an md5, sha256 or sha512 in
    hex, as `hash_kind` says.
    """
    try:
        _check_hash(body, expected_hash, hash_kind)
        return _encode(body, settings)
    except _Refused as refused:
        return refused.failed
    except MemoryError:
        message = "it takes more memory than images.max_decoder_bytes"
        return Failed(ErrorClass.TOO_COSTLY, CONTENT_CODE, message, retryable=False)
    except Exception as error:
        # Decoders raise whatever comes to them with hostile bytes; all of it means the same.
        message = f"cannot be decoded: {type(error).__name__}: {error}"
        message = one_line(message[:300])
        return Failed(ErrorClass.CORRUPT_IMAGE, CONTENT_CODE, message, retryable=False)


def _check_hash(body: bytes, expected: str | None, kind: str) -> None:
    wanted = re.sub(r"^(md5|sha-?256|sha-?512)[:-]", "", (expected or "").strip().lower())
    if not wanted:
        return
    found = _HASHES[kind](body, usedforsecurity=False).hexdigest()
    if found != wanted:
        message = f"the list says {str(expected)[:150]}, the {kind} of what came is {found}"
        raise _Refused(ErrorClass.HASH_MISMATCH, message)


def _encode(body: bytes, settings: Images) -> Encoded:
    image, name = _open(body, settings)
    exif = _exif_of(image, name)
    turn = _turn(exif, name)
    size = turned(image.size, turn)
    shape = shape_of(size, settings)
    is_as_wanted = shape.final == size and len(body) <= _most_bytes(size)
    if _keeps_bytes(image, name, turn, is_as_wanted, settings):
        reduce_jpeg(image, (1, 1))
        image.load()
        data, stored_size = body, size
    else:
        stored = shape.cut(turn_image(scaled(image, turned(shape.scaled, turn)), turn))
        data, stored_size = _saved(stored, settings), stored.size
    return Encoded(
        data=data,
        original=body if settings.keep_original and data is not body else None,
        hashsum_original=_md5(body),
        hashsum_resized=_md5(data),
        original_size=size[::-1],
        resized_size=stored_size[::-1],
        exif=exif_json(exif) if exif else None,
    )


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _open(body: bytes, settings: Images) -> tuple[ImageFile, str]:
    max_pixels = settings.max_pixels
    name = allowed_format(body)
    if name is None:
        if other := other_image_format(body):
            message = f"{other}; stored are {', '.join(DECODERS)}"
            raise _Refused(ErrorClass.UNSUPPORTED_FORMAT, message)
        raise _Refused(ErrorClass.NOT_AN_IMAGE, f"looks like {looks_like(body)}")
    if name == "webp":
        _check_webp(webp_canvas(body), settings)
    if name == "jpeg":
        _check_count(body.count(SCAN), MOST_SCANS, "scans")
    if name == "tiff":
        _check_count(tiff_entries(body), MOST_ENTRIES, "entries in its directory")
    image = DECODERS[name](io.BytesIO(body))
    _check_pixels(image.size, max_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # A tile is decoded as a whole, however small the image it belongs to.
        _check_pixels((image.tag_v2.get(322, 1), image.tag_v2.get(323, 1)), max_pixels)
    return image, name


def _check_pixels(size: Size, max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        message = f"{size[0]} x {size[1]} pixels, over images.max_pixels ({max_pixels})"
        raise _Refused(ErrorClass.TOO_MANY_PIXELS, message)


def _check_count(count: int, most: int, what: str) -> None:
    if count > most:
        raise _Refused(ErrorClass.TOO_COSTLY, f"{count} {what}, over {most}")


def _check_webp(size: Size, settings: Images) -> None:
    """Its decoder says of memory that it lacks only that the image is broken."""
    _check_pixels(size, settings.max_pixels)
    if size[0] * size[1] * WEBP_BYTES > settings.max_decoder_bytes:
        raise MemoryError


def _exif_of(image: ImageFile, name: str) -> Image.Exif | None:
    if name == "png":
        image.load()  # its EXIF may come after the pixels: a broken image shall not pass for it
    try:
        return image.getexif()
    except Exception:  # broken EXIF is no reason to lose the image
        return None


def _turn(exif: Image.Exif | None, name: str) -> int:
    """EXIF orientation, 1 = upright. Pillow turns TIFFs by itself."""
    turn = exif.get(ORIENTATION) if exif and name != "tiff" else None
    return turn if isinstance(turn, int) and turn in TURNS else 1


def _keeps_bytes(
    image: ImageFile, name: str, turn: int, is_as_wanted: bool, settings: Images
) -> bool:
    if settings.image_size == 0:
        return True
    is_as_wanted = is_as_wanted and turn == 1 and name == settings.format
    return is_as_wanted and getattr(image, "n_frames", 1) == 1


def _most_bytes(size: Size) -> int:
    """What an honest image of this size has at most, with a profile and a page of EXIF."""
    return METADATA_BYTES + 4 * size[0] * size[1]


def _saved(image: Image.Image, settings: Images) -> bytes:
    image = plain_colours(image)
    if settings.format == "jpeg" and image.mode in {"LA", "RGBA"}:
        image = on_white(image)
    elif settings.format == "webp" and image.mode in {"L", "LA"}:
        image = image.convert("RGB" if image.mode == "L" else "RGBA")
    image.info = {}  # Pillow copies comments and profiles from here
    buffer = io.BytesIO()
    try:
        image.save(buffer, settings.format.upper(), quality=settings.quality)
    except Exception as error:
        message = f"cannot be stored as {settings.format}: {error}"
        raise _Refused(ErrorClass.INTERNAL, message[:300]) from error
    return buffer.getvalue()
