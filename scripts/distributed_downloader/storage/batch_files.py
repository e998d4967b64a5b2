"""Reading one batch's folder: its tables, and its parts that no table has taken in yet.

successes.parquet and errors.parquet each name, in their own metadata, the parts they have taken in
(`absorbed`); a part may still lie there after that. What the tables and parts say together:

1. removed > ok > failed: a row has one state. A removal with `refetch` only blocks the image it
   took away, told by its `fetched_at`; the row is pending until it has another.
2. Of several images of a row, the one that is in the table counts, else the oldest; but one that
   was asked for to replace it (`asked_wave`) counts more, the newest most. Such asking may also
   bring no image (the server says it is the same) or an error: then the old one stays.
3. Of several errors of a row, the newest counts (`error_records` says how they add up).
4. A redirect to another group leaves a row pending, at no cost, until it is taken for a loop.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from distributed_downloader.lists.generations import Generation
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import POLICY_CLASSES, State
from distributed_downloader.storage.again import NOTHING_AGAIN, Again
from distributed_downloader.storage.batch_tables import damaged_table, read_metadata
from distributed_downloader.storage.error_records import ELSEWHERE, merge_errors
from distributed_downloader.storage.parts import IMAGES_NAME, ROWS_NAME, list_parts
from distributed_downloader.tables import ERRORS, PART_ROWS, REMOVED, SUCCESSES

SUCCESSES_NAME = "successes.parquet"
ERRORS_NAME = "errors.parquet"
REMOVED_NAME = "removed.parquet"
COMPLETED_NAME = "completed"

STATES = pl.Schema(
    {
        "uuid": pl.String,
        "state": pl.String,
        "error_class": pl.String,
        "error_code": pl.Int32,
        "target": pl.String,  # where a redirect to another group led to
        "waves_tried": pl.Int32,
        "retry_count": pl.Int32,
    }
)


def absorbed_by(table: Path) -> frozenset[str]:
    """Names of the parts that a table has taken in, as far as they may still be there."""
    return frozenset(json.loads(read_metadata(table).get("absorbed", "[]")))


def new_parts(folder: Path, table: Path) -> list[Path]:
    """The parts that a table has not taken in. Parts are listed first: one may go meanwhile."""
    parts = list_parts(folder)
    known = absorbed_by(table)
    return [part for part in parts if part.name not in known]


@dataclass(frozen=True, slots=True)
class BatchFiles:
    """What lies in a batch's folder, as it was when it was looked at."""

    folder: Path
    fresh: tuple[Path, ...]  # parts that successes.parquet has not taken in
    fresh_errors: tuple[Path, ...]  # parts that errors.parquet has not taken in
    has_successes: bool
    has_errors: bool
    has_removed: bool

    @classmethod
    def of(cls, folder: Path) -> "BatchFiles":
        """Look at a folder; it may be absent. Raises FolderError if a table has lost its end."""
        successes, errors = folder / SUCCESSES_NAME, folder / ERRORS_NAME
        return cls(
            folder=folder,
            fresh=tuple(new_parts(folder, successes)),
            fresh_errors=tuple(new_parts(folder, errors)),
            has_successes=successes.exists(),
            has_errors=errors.exists(),
            has_removed=(folder / REMOVED_NAME).exists(),
        )

    @property
    def is_plain(self) -> bool:
        """Whether successes.parquet alone says which images there are."""
        return not self.fresh and not self.has_removed

    def removed(self) -> pl.LazyFrame:
        """removed.parquet as it is; tables.REMOVED."""
        if not self.has_removed:
            return pl.LazyFrame(schema=REMOVED)
        return _scan([self.folder / REMOVED_NAME]).select(REMOVED.names())

    def images(self) -> pl.LazyFrame:
        """One row for each image there is; tables.SUCCESSES, in a stable order.

        `file` is relative to the folder: a shard, or a part's images.h5.
        """
        found = self.in_shards()
        return self._without_removed(self._with_fresh(found)) if self.fresh else found

    def in_shards(self) -> pl.LazyFrame:
        """The rows of successes.parquet, without those that a cut removal left there."""
        return self._without_removed(self.table())

    def table(self) -> pl.LazyFrame:
        """successes.parquet as it is; tables.SUCCESSES."""
        if not self.has_successes:
            return pl.LazyFrame(schema=SUCCESSES)
        return _scan([self.folder / SUCCESSES_NAME]).select(SUCCESSES.names())

    def _with_fresh(self, table: pl.LazyFrame) -> pl.LazyFrame:
        """The table, and what parts have brought since: rule 2."""
        rows = self._part_rows()
        images = rows.filter(pl.col("error_class").is_null() & pl.col("file").is_not_null())
        images = images.select(SUCCESSES.names())
        newer = images.filter(pl.col("asked_wave").is_not_null())
        newer = newer.unique("uuid", keep="last", maintain_order=True)
        fresh = images.filter(pl.col("asked_wave").is_null())
        fresh = fresh.join(table, on="uuid", how="anti", maintain_order="left")
        fresh = fresh.unique("uuid", keep="first", maintain_order=True)
        older = pl.concat([table, fresh])
        older = older.join(newer, on="uuid", how="anti", maintain_order="left")
        return _with_answers(pl.concat([older, newer]), rows)

    def _part_rows(self) -> pl.LazyFrame:
        """The rows of fresh parts, oldest first, with `file` as seen from the folder."""
        part = pl.col("path").str.extract(r"([^/\\]+)[/\\][^/\\]+$", 1)
        rows = _scan([path / ROWS_NAME for path in self.fresh], include_file_paths="path")
        file = pl.when(pl.col("file").is_not_null()).then(part + f"/{IMAGES_NAME}")
        return (
            rows.with_columns(file=file)
            .select(PART_ROWS.names())
            .sort("wave", "fetched_at", maintain_order=True)
        )

    def old_images(self, again: Again) -> pl.DataFrame:
        """Images that are asked for again: uuid, final_url, and what tells whether they changed."""
        columns = ["uuid", "final_url", "etag", "last_modified", "hashsum_original"]
        return self.images().filter(again.is_old).select(columns).collect()

    def _without_removed(self, images: pl.LazyFrame) -> pl.LazyFrame:
        if not self.has_removed:
            return images
        removed = self.removed()
        gone = removed.filter(~pl.col("refetch"))
        taken = removed.filter("refetch")
        left = images.join(gone, on="uuid", how="anti", maintain_order="left")
        return left.join(taken, on=["uuid", "fetched_at"], how="anti", maintain_order="left")

    def errors(self) -> pl.LazyFrame:
        """One row for each row that failed, whatever became of it since; tables.ERRORS."""
        table = pl.LazyFrame(schema=ERRORS)
        if self.has_errors:
            table = _scan([self.folder / ERRORS_NAME]).select(ERRORS.names())
        if not self.fresh_errors:
            return table
        rows = _scan([part / ROWS_NAME for part in self.fresh_errors])
        is_error = pl.col("error_class").is_not_null() & pl.col("asked_wave").is_null()
        fresh = rows.filter(is_error).select(ERRORS.names())
        return merge_errors(pl.concat([table, fresh]))

    def states(self, retries_waves: int, again: Again = NOTHING_AGAIN) -> pl.DataFrame:
        """The state of each row that anything is known of; STATES."""
        light = ["uuid", "error_class", "error_code", "retryable", "final_url", "wave"]
        images = self.images().select("uuid").collect()
        removed = self.removed().select("uuid", "refetch").collect()
        errors = self.errors().select(*light, "waves_tried", "retry_count").collect()
        gone = removed.filter(~pl.col("refetch"))
        errors = errors.join(images, on="uuid", how="anti").join(gone, on="uuid", how="anti")
        known = pl.concat([images.select("uuid"), gone.select("uuid"), errors.select("uuid")])
        waiting = removed.filter("refetch").join(known, on="uuid", how="anti")
        return pl.concat(
            [
                _as(images, State.OK),
                _as(gone, State.REMOVED),
                _as(waiting.unique("uuid"), State.PENDING),
                _error_states(errors, retries_waves, again),
            ]
        )


def _scan(paths: Sequence[Path], include_file_paths: str | None = None) -> pl.LazyFrame:
    # The folders are hive-style: left to itself, polars would add server_name and partition_id.
    return pl.scan_parquet(
        list(paths), hive_partitioning=False, glob=False, include_file_paths=include_file_paths
    )


def _with_answers(images: pl.LazyFrame, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The images with what servers said when they were asked for again (rows of parts)."""
    asked = rows.filter(pl.col("asked_wave").is_not_null()).group_by("uuid", maintain_order=True)
    answers = asked.agg(
        pl.col("validated_at", "asked_wave").max().name.prefix("new_"),
        pl.col("etag", "last_modified").drop_nulls().last().name.prefix("new_"),
    )
    joined = images.join(answers, on="uuid", how="left", maintain_order="left")
    names = ("validated_at", "asked_wave", "etag", "last_modified")
    newest = [pl.coalesce(f"new_{name}", name).alias(name) for name in names]
    return joined.with_columns(newest).select(SUCCESSES.names())


def _as(rows: pl.DataFrame, state: State) -> pl.DataFrame:
    rows = rows.select("uuid", state=pl.lit(state.value))
    return pl.concat([rows, STATES.to_frame()], how="diagonal")


def _error_states(errors: pl.DataFrame, retries_waves: int, again: Again) -> pl.DataFrame:
    elsewhere = pl.col("error_class") == ELSEWHERE
    tried_enough = pl.col("waves_tried") >= retries_waves
    state = (
        pl.when(elsewhere | again.is_failed & (~pl.col("retryable") | tried_enough))
        .then(pl.lit(State.PENDING.value))
        .when(pl.col("error_class").is_in([word.value for word in POLICY_CLASSES]))
        .then(pl.lit(State.REFUSED.value))
        .when(~pl.col("retryable") | tried_enough)
        .then(pl.lit(State.FAILED_FINAL.value))
        .otherwise(pl.lit(State.FAILED_RETRYABLE.value))
    )
    target = pl.when(elsewhere).then("final_url")
    return errors.with_columns(state=state, target=target).select(STATES.names())


def read_states(batch: Batch, paths: OutputPaths, retries_waves: int) -> pl.DataFrame:
    """The state of each row of a batch that anything is known of, over tables and parts; STATES.

    A row that is not in it is pending. A row is final when it may not be retried, or was tried in
    `retries_waves` waves. Rows that the list has no more are left out. The folder and its tables
    may be absent. Raises FolderError if one of them cannot be read.
    """
    folder = paths.batch_images(batch)
    try:
        states = BatchFiles.of(folder).states(retries_waves, Again.of(paths))
    except pl.exceptions.ComputeError as error:
        raise damaged_table(f"A table in {folder}", error) from error
    return without_gone(states, batch, paths)


def without_gone(rows: pl.DataFrame, batch: Batch, paths: OutputPaths) -> pl.DataFrame:
    """These rows of a batch (uuid, ...), but for those that the list has no more."""
    gone = Generation.of(paths).gone_of(batch)
    return rows.filter(~pl.col("uuid").is_in(gone.implode())) if len(gone) else rows
