"""Lists of a few rows, partitioned, and the batches that came of them."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader.lists.intake import Counts
from distributed_downloader.lists.partition import partition_urls
from distributed_downloader.paths import Batch
from distributed_downloader.settings import Settings
from tests.unit.conftest import make_settings

Rows = list[dict[str, Any]]


def partitioned(folder: Path, rows: Rows, **config: Any) -> tuple[Settings, Counts]:
    """These rows partitioned into `folder/out`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = make_settings(folder, path_to_input=str(path), **config)
    return settings, partition_urls(settings)


def batches_of(settings: Settings) -> dict[Batch, pl.DataFrame]:
    files = sorted(settings.paths.urls.glob("*/*/urls.parquet"))
    return {
        Batch.from_folder(file.parent): pl.read_parquet(file, hive_partitioning=False)
        for file in files
    }


def urls(*names: str, **more: str) -> Rows:
    return [{"identifier": f"http://{name}", **more} for name in names]
