"""Batches as partition leaves them, for the tests of plans and waves."""

from collections.abc import Mapping, Sequence

import polars as pl

from distributed_downloader.durable import write_parquet
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import ErrorClass, Failed, Fetched, Row
from distributed_downloader.storage.parts import PartNames, PartWriter
from distributed_downloader.tables import PARTITIONS, PROFILES, URLS
from distributed_downloader.urls.normalise import server_of
from tests.unit.storage_folder import encoded

NOT_FOUND = Failed(ErrorClass.NOT_FOUND, 404, "HTTP 404", retryable=False)
BROKEN = Failed(ErrorClass.SERVER_ERROR, 500, "HTTP 500", retryable=True)
REFUSED = Failed(ErrorClass.ROBOTS_DISALLOWED, -2, "no", retryable=False)


def elsewhere(target: str) -> Failed:
    """What is kept of a redirect to another rank's group."""
    return Failed(ErrorClass.REDIRECT_ELSEWHERE, -2, "elsewhere", retryable=True, final_url=target)


def partition(paths: OutputPaths, batches: Mapping[Batch, Sequence[str]]) -> None:
    """Write the urls folder: each row's URL is its uuid too."""
    rows = []
    for batch, urls in batches.items():
        values = {"uuid": urls, "identifier": urls, "server": [server_of(url) for url in urls]}
        table = pl.DataFrame(values).with_columns(source_id=pl.col("uuid"))
        for name in URLS.names():
            if name not in table.columns:
                table = table.with_columns(pl.lit(f"the {name}").alias(name))
        write_parquet(paths.batch_urls(batch), table.select(URLS.names()))
        rows.append((batch.server_name, batch.partition_id, len(urls)))
    write_parquet(paths.partitions, pl.DataFrame(rows, PARTITIONS, orient="row"))


def profile(paths: OutputPaths, *rows: Mapping[str, object]) -> None:
    """Write the profiles table: a healthy server at 3/s, but for what is said."""
    usual = {"success_count": 1, "error_count": 0, "rate_limit": 3.0, "group": "", "total_rows": 1}
    pl.DataFrame([{**usual, **row} for row in rows], PROFILES).write_csv(paths.profiles_table)


def store(paths: OutputPaths, batch: Batch, outcomes: Mapping[str, Failed | None], wave=0) -> None:
    """Commit a part: uuid -> its failure, None for an image."""
    writer = PartWriter(batch, PartNames(wave, 0))
    for uuid, failed in outcomes.items():
        row = Row(uuid, uuid, uuid, server_of(uuid), batch)
        if failed is None:
            image = Fetched(b"", 200, uuid, "image/jpeg", None, None, 0.1)
            writer.add_image(row, image, encoded(uuid.encode()))
        else:
            writer.add_error(row, failed)
    writer.commit(paths.batch_images(batch), lambda: None)
