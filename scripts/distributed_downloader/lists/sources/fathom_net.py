"""FathomNet: valid images, all of them under one licence."""

import polars as pl

from distributed_downloader.lists.sources import Column, Source
from distributed_downloader.settings import Settings


def _wanted(column: Column, _settings: Settings) -> pl.Expr:
    is_valid = column("valid").str.to_lowercase().is_in(["true", "1"])
    return column("uuid").is_not_null() & is_valid


SOURCE = Source(
    "fathom_net",
    {"source_id": "uuid", "identifier": "url"},
    license="http://creativecommons.org/licenses/by-nc-nd/4.0/",
    wanted=_wanted,
)
