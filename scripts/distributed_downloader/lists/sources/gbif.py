"""GBIF: a Darwin Core Archive as it comes, its `multimedia.txt` alone, or a table joined already.

Kept are rows with a gbifID that are still images, or that do not say what they are and have an
image's format. Media of material citations are scans of literature: they are left out. A row that
does not say its basisOfRecord is kept.
"""

import polars as pl

from distributed_downloader.lists.sources import Archive, Column, Source
from distributed_downloader.settings import Settings

OF_THE_OCCURRENCE = (
    *("basisOfRecord", "datasetKey", "taxonKey", "taxonRank", "scientificName"),
    *("kingdom", "phylum", "class", "order", "family", "genus", "species"),
)


def _wanted(column: Column, _settings: Settings) -> pl.Expr:
    kind, record = column("type"), column("basisOfRecord").fill_null("")
    is_image = (kind == "StillImage") | (
        kind.is_null() & column("format").str.to_lowercase().str.contains("image", literal=True)
    )
    is_citation = record.str.to_uppercase().str.contains("MATERIAL_CITATION", literal=True)
    return column("gbifID").is_not_null() & is_image & ~is_citation


SOURCE = Source(
    "gbif",
    {"source_id": "gbifID"},
    wanted=_wanted,
    archive=Archive("multimedia", "occurrence", "gbifID", OF_THE_OCCURRENCE),
)
