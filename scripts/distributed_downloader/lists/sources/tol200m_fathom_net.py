"""TreeOfLife-200M's FathomNet rows: several for one image, of which one is fetched.

`duplicates.parquet` says which row belongs to which image.
"""

from distributed_downloader.lists.sources import Source
from distributed_downloader.lists.sources.tol200m_general import of_included_sources

SOURCE = Source("tol200m_fathomNet", {"identifier": "source_url"}, wanted=of_included_sources)
