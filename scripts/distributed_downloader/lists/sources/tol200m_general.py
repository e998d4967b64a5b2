"""TreeOfLife-200M's catalogue: rows of the `included_sources`, with the uuids that it gives them.

Servers are left out by `filters.servers_excluded` or `excluded_servers_path`.
"""

import polars as pl

from distributed_downloader.lists.sources import Column, Source
from distributed_downloader.settings import Settings


def of_included_sources(column: Column, settings: Settings) -> pl.Expr:
    """Rows whose data_source is listed; every row if none is."""
    included = list(settings.included_sources)
    return column("data_source").is_in(included) if included else pl.lit(value=True)


SOURCE = Source("tol200m_general", {"identifier": "source_url"}, wanted=of_included_sources)
