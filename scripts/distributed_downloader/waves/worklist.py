"""What is left of a batch: counted for the plan, and handed out row by row to a rank.

A batch may hold a million rows and a rank hundreds of batches, so a rank keeps only the row
numbers that are left and reads the rows themselves in slices.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from distributed_downloader.checksums import is_whole
from distributed_downloader.courtesy.groups import group_of, groups_of
from distributed_downloader.courtesy.ignored import is_ignored
from distributed_downloader.durable import read_json
from distributed_downloader.lists.generations import lost_rows
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import Known, Row, State
from distributed_downloader.settings import Settings
from distributed_downloader.storage.again import Again
from distributed_downloader.storage.batch_files import (
    COMPLETED_NAME,
    BatchFiles,
    read_states,
    without_gone,
)
from distributed_downloader.tables import EXPECTED_HASH
from distributed_downloader.urls.normalise import server_of
from distributed_downloader.waves.left import LeftRows

LEFT = (State.PENDING.value, State.FAILED_RETRYABLE.value)
SLICE_ROWS = 256
META = ("license", "source", "title", EXPECTED_HASH)
KNOWN = ("etag", "last_modified", "hashsum_original")


@dataclass(frozen=True, slots=True)
class RowsLeft:
    """What a look at a batch tells: its rows that are left, by group of the server to ask."""

    batch: Batch
    # number, group, asked (a server), is_pending, waves_tried, target; of images that are asked for
    # again, also etag, last_modified, hashsum_original
    table: pl.DataFrame

    @property
    def by_group(self) -> dict[str, LeftRows]:
        """Rows left of each group."""
        counts = (
            self.table.group_by("group")
            .agg(
                pl.col("is_pending").sum().alias("pending"),
                (~pl.col("is_pending")).sum().alias("retryable"),
                pl.col("asked").unique(),
                pl.col("asked").filter(pl.col("target").is_null()).unique().alias("listed"),
            )
            .sort("group")
        )
        return {
            group: LeftRows(
                pending, retryable, frozenset(asked), frozenset(asked) - frozenset(listed)
            )
            for group, pending, retryable, asked, listed in counts.iter_rows()
        }


def rows_left(batch: Batch, settings: Settings, ignored: frozenset[str] = frozenset()) -> RowsLeft:
    """Which rows of the batch have no final state, those of ignored servers left out."""
    paths = settings.paths
    file = paths.batch_urls(batch)
    if not (file.is_file() and is_whole(file)):  # else another URL might be asked than was listed
        raise lost_rows(paths, f"{file} is {'damaged' if file.is_file() else 'missing'}")
    urls = pl.read_parquet(file, columns=["uuid", "server"])
    urls = without_gone(urls.with_row_index("number"), batch, paths)
    left = _unfinished(urls, read_states(batch, paths, settings.retries_waves))
    left = left.with_columns(
        asked=pl.col("target").map_elements(server_of, return_dtype=pl.String)
    ).with_columns(pl.coalesce("asked", "server").alias("asked"))
    left = pl.concat([left, _old_images(batch, urls, settings)], how="diagonal")
    groups = groups_of(left["asked"].unique().to_list(), settings.politeness)
    unwanted = [server for server in left["server"].unique() if is_ignored(server, ignored)]
    table = left.filter(~pl.col("server").is_in(unwanted)).select(
        "number",
        pl.col("asked").replace_strict(groups, return_dtype=pl.String).alias("group"),
        "asked",
        pl.col("state").fill_null(State.PENDING.value).eq(State.PENDING.value).alias("is_pending"),
        pl.col("waves_tried").fill_null(0),
        "target",
        *KNOWN,
    )
    return RowsLeft(batch, table.sort("number"))


def _unfinished(urls: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    """The rows without a final state."""
    if states.is_empty():
        empty = pl.lit(None, pl.String)
        return urls.with_columns(waves_tried=pl.lit(0, pl.Int32), target=empty, state=empty)
    known = urls.join(states, on="uuid", how="left", maintain_order="left")
    return known.filter(pl.col("state").is_null() | pl.col("state").is_in(LEFT))


def _old_images(batch: Batch, urls: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """The rows whose image is asked for again: number, server, asked, target, KNOWN.

    One whose image came from another group, by a redirect, is asked for there: that is where what
    was said of it holds.
    """
    schema = dict.fromkeys(("asked", "target", *KNOWN), pl.String)
    again = Again.of(settings.paths)
    if again.seen_before is None:
        return urls.clear().with_columns(pl.lit(None, kind).alias(n) for n, kind in schema.items())
    images = BatchFiles.of(settings.paths.batch_images(batch)).old_images(again)
    old = urls.join(images, on="uuid", how="inner", maintain_order="left").with_columns(
        asked=pl.coalesce(
            pl.col("final_url").map_elements(server_of, return_dtype=pl.String), "server"
        )
    )
    groups = groups_of({*old["asked"], *old["server"]}, settings.politeness)
    is_elsewhere = pl.col("asked").replace_strict(groups) != pl.col("server").replace_strict(groups)
    return old.with_columns(
        asked=pl.when(is_elsewhere).then("asked").otherwise("server"),
        target=pl.when(is_elsewhere).then("final_url"),
    )


def count_left(
    batch: Batch, rows: int, settings: Settings, ignored: frozenset[str] = frozenset()
) -> dict[str, LeftRows]:
    """Rows left of each group; a batch that is completed, or that nobody touched, is not opened."""
    folder = settings.paths.batch_images(batch)
    if not rows or _is_completed(folder, settings):
        return {}
    if folder.exists() or batch.is_mixed:
        return rows_left(batch, settings, ignored).by_group
    if is_ignored(batch.server_name, ignored):
        return {}
    servers = frozenset({batch.server_name})
    return {group_of(batch.server_name, settings.politeness): LeftRows(rows, 0, servers)}


def _is_completed(folder: Path, settings: Settings) -> bool:
    """Whether its rows are final by the settings of today: more may be allowed by now."""
    mark = read_json(folder / COMPLETED_NAME)
    if mark is None or mark.get("retries_waves", 0) < settings.retries_waves:
        return False
    again = Again.of(settings.paths)
    if mark.get("retry_wave", 0) < again.retry_wave:
        return False
    return again.seen_before is None or (mark.get("seen") or again.seen_before) >= again.seen_before


def read_rows(left: RowsLeft, group: str, paths: OutputPaths) -> Iterator[Row]:
    """The rows of one group that are left, in the order of the batch, read in slices."""
    mine = left.table.filter(pl.col("group") == group).drop("group", "asked", "is_pending")
    for start in range(0, len(mine), SLICE_ROWS):
        yield from _slice(left.batch, mine.slice(start, SLICE_ROWS), paths)


def _slice(batch: Batch, numbers: pl.DataFrame, paths: OutputPaths) -> Iterator[Row]:
    first, last = numbers["number"][0], numbers["number"][-1]
    urls = pl.scan_parquet(paths.batch_urls(batch), hive_partitioning=False)
    if EXPECTED_HASH not in urls.collect_schema():
        urls = urls.with_columns(pl.lit(None, pl.String).alias(EXPECTED_HASH))
    table = (
        urls.select("uuid", "source_id", "identifier", "server", *META)
        .with_row_index("number")
        .slice(first, last - first + 1)
        .filter(pl.col("number").is_in(numbers["number"].implode()))
        .collect(engine="streaming")
        .join(numbers, on="number", how="inner", maintain_order="left")
    )
    for values in table.iter_rows(named=True):
        yield Row(
            uuid=values["uuid"],
            source_id=values["source_id"],
            identifier=values["identifier"],
            server=values["server"],
            batch=batch,
            waves_tried=values["waves_tried"],
            target=values["target"],
            meta={name: values[name] for name in META},
            known=Known(*(values[n] for n in KNOWN)) if values["hashsum_original"] else None,
        )
