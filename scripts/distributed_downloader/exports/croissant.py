"""Croissant 1.0: what the dataset is, where its files lie and what their columns mean.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html. Paths are relative to the file
itself, so it lies at the root of what it describes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from distributed_downloader.exports.parquet_shards import IMAGE
from distributed_downloader.tables import SUCCESSES

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
PARQUET, HDF5 = "application/x-parquet", "application/x-hdf5"

MEANINGS = {
    "uuid": "The name of the image in this dataset.",
    "source_id": "The name of the row at its source.",
    "identifier": "The URL that was asked for.",
    "server": "Host and port of that URL.",
    "is_license_full": "Whether license, source and title are all known.",
    "license": "The licence of the image, as the list had it.",
    "source": "Who published the image.",
    "title": "The title of the image.",
    "hashsum_original": "MD5 of the bytes received, in hex.",
    "hashsum_resized": "MD5 of the bytes stored, in hex.",
    "file": "The HDF5 file with the image, in the same folder as the table.",
    "index": "Row of that file's offsets, from 0: the image is data[offsets[i]:offsets[i+1]].",
    "final_url": "The URL after redirects.",
    "content_type": "The media type that the server named.",
    "fetched_at": "When the image was received, UTC.",
    "exif": "EXIF of the original, as JSON text.",
}

_PREFIXES = {
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "wd": "https://www.wikidata.org/wiki/",
}
_TERMS = (
    "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet",
    "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path",
    "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
    "source", "subField", "transform",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class About:
    """What a person says of the dataset, and what was counted."""

    name: str
    description: str
    url: str
    licenses: Sequence[str]
    images: int
    published: str  # ISO date


def croissant(about: About, tables: str, shards: str, parquet: str | None = None) -> dict[str, Any]:
    """The metadata as JSON-LD.

    `tables`, `shards` and `parquet` are globs, relative to the file: the tables of images, their
    HDF5 files, and the shards of export_parquet (None: there are none).
    """
    files = [_file_set("tables", PARQUET, tables), _file_set("shards", HDF5, shards)]
    sets = [_record_set("images", "tables", "One record for each image.", _columns())]
    if parquet:
        files.append(_file_set("parquet", PARQUET, parquet))
        pixels = {IMAGE: ("sc:ImageObject", "The encoded image.")}
        columns = {name: told for name, told in _columns().items() if name not in ("file", "index")}
        sets.append(
            _record_set("records", "parquet", "The images themselves.", {**pixels, **columns})
        )
    return {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": about.name,
        "description": f"{about.description} {about.images} images.".strip(),
        "url": about.url,
        "license": list(about.licenses),
        "citeAs": f"{about.name}, {about.published}. {about.url}",
        "datePublished": about.published,
        "version": "1.0.0",
        "distribution": files,
        "recordSet": sets,
    }


def _context() -> dict[str, Any]:
    typed = {
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
    }
    terms = {term: f"cr:{term}" for term in _TERMS}
    names = {"citeAs": "cr:citeAs", "conformsTo": "dct:conformsTo"}
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        **_PREFIXES,
        **names,
        **typed,
        **terms,
    }


def _file_set(name: str, form: str, glob: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "encodingFormat": form,
        "includes": glob,
    }


def _columns() -> dict[str, tuple[str, str]]:
    """Type and meaning of each column that has one."""
    return {name: (_type_of(SUCCESSES[name]), meaning) for name, meaning in MEANINGS.items()}


def _type_of(column: pl.DataType) -> str:
    if column.is_integer():
        return "sc:Integer"
    if column.is_temporal():
        return "sc:DateTime"
    return "sc:Boolean" if column == pl.Boolean else "sc:Text"


def _record_set(
    name: str, file_set: str, description: str, columns: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": column,
            "description": meaning,
            "dataType": kind,
            "source": {"fileSet": {"@id": file_set}, "extract": {"column": column}},
        }
        for column, (kind, meaning) in columns.items()
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "key": {"@id": f"{name}/uuid"},
        "field": fields,
    }
