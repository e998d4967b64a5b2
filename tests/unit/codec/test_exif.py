import json

from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, TiffTags

from distributed_downloader.codec.exif import MAX_JSON_CHARS
from distributed_downloader.codec.images import encode
from distributed_downloader.records import Encoded
from tests.unit.codec.pictures import SETTINGS, encoded, picture, pillow_may_warn, saved


def test_exif_is_told_as_json():
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "X100\0"
    exif[ExifTags.Base.Orientation] = 1
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] = 400
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 2.5)
    said = json.loads(encoded(saved(picture(), exif=exif)).exif)
    assert said["Model"] == "X100"
    assert said["ISOSpeedRatings"] == 400
    assert said["GPSLatitude"] == [52.0, 31.0, 2.5]
    assert encoded(saved(picture())).exif is None


def test_exif_is_never_long():
    exif = Image.Exif()
    for tag in (tag for tag in ExifTags.TAGS if TiffTags.lookup(tag).type is None):
        exif[tag] = "x" * 400
    exif[ExifTags.Base.ImageDescription] = "y" * 20_000
    said = encoded(saved(picture(), "PNG", exif=exif)).exif
    assert MAX_JSON_CHARS / 2 < len(said) <= MAX_JSON_CHARS
    assert "yyyy" not in said


@pillow_may_warn
@given(st.binary(max_size=300))
def test_hostile_exif_never_costs_the_image(junk):
    body = saved(picture(size=(80, 60)), exif=b"Exif\0\0" + junk)
    outcome = encode(body, SETTINGS)
    assert isinstance(outcome, Encoded)
    assert outcome.exif is None or json.loads(outcome.exif)


@pillow_may_warn
@given(st.binary(max_size=400))
def test_hostile_tiff_headers_in_exif_never_cost_the_image(junk):
    body = saved(picture(size=(80, 60)), exif=b"Exif\0\0II*\0\x08\0\0\0" + junk)
    assert isinstance(encode(body, SETTINGS), Encoded)
