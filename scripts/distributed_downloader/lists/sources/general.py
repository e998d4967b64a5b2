"""Any table: every row with a URL; what its columns are called stands in the config's `columns`."""

from distributed_downloader.lists.sources import Source

SOURCE = Source("general")
