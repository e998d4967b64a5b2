"""LILA BC's camera traps: images that show something, from the first cloud that has them."""

import polars as pl

from distributed_downloader.lists.sources import Column, Source
from distributed_downloader.settings import Settings


def _wanted(column: Column, _settings: Settings) -> pl.Expr:
    return column("original_label").ne_missing("empty")


SOURCE = Source(
    "lila",
    {"source_id": "image_id"},
    any_of=("url_gcp", "url_aws", "url_azure"),
    wanted=_wanted,
)
