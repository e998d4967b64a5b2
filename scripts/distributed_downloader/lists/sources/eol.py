"""The Encyclopedia of Life's image list: rows with a content ID and a full-size URL."""

import polars as pl

from distributed_downloader.lists.sources import Column, Source
from distributed_downloader.settings import Settings


def _wanted(column: Column, _settings: Settings) -> pl.Expr:
    return column("EOL content ID").is_not_null()


SOURCE = Source(
    "eol",
    {
        "source_id": "EOL content ID",
        "identifier": "EOL Full-Size Copy URL",
        "license": "License Name",
        "owner": "Copyright Owner",
    },
    wanted=_wanted,
)
