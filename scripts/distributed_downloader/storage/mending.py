"""Takes damaged files out of use, so that the next wave fetches what they held, and nothing else.

1. Rows whose image is damaged move to removed.parquet, to be fetched again.
2. A damaged table is replaced by an empty one: its rows are unknown, which is pending. Numbers of
   shards are not given out again all the same.
3. A part whose table is damaged goes.

A removal that was cut is no damage, and is ended here.
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import polars as pl

from distributed_downloader.checksums import is_whole
from distributed_downloader.errors import StorageError
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.storage.batch_files import (
    COMPLETED_NAME,
    ERRORS_NAME,
    REMOVED_NAME,
    SUCCESSES_NAME,
    BatchFiles,
)
from distributed_downloader.storage.batch_tables import Allowed, write_table
from distributed_downloader.storage.damage import (
    PLACES,
    TABLES,
    Damage,
    damaged_images,
    damaged_tables,
)
from distributed_downloader.storage.removal import drop_removed, holds_removed, remove_images
from distributed_downloader.storage.shards import next_number
from distributed_downloader.tables import ERRORS, REMOVED, SUCCESSES

TOOL = "verify"  # what removed.parquet says of rows that were taken out here

_SCHEMAS = {SUCCESSES_NAME: SUCCESSES, ERRORS_NAME: ERRORS, REMOVED_NAME: REMOVED}


Writing = Callable[[], AbstractContextManager[Allowed]]  # opens the folder to who may write


class Mender:
    """Mends batches of one output folder; opens it for writing only if there is need."""

    def __init__(self, paths: OutputPaths, writing: Writing) -> None:
        self._paths, self._writing = paths, writing

    def mend(self, batch: Batch) -> list[str]:
        """Take out of use what is damaged in a batch: a sentence for each.

        What is found is looked for again before anything is changed: somebody may be at work until
        the folder is ours. Raises StorageError, also for what cannot be read, and LockError.
        """
        try:
            if not find(batch, self._paths) and not _is_cut(batch, self._paths):
                return []
            with self._writing() as allowed:
                return [str(damage) for damage in mend(batch, self._paths, allowed)]
        except OSError as error:
            where = error.filename or self._paths.batch_images(batch)
            raise StorageError(
                f"Cannot read {where}: {error.strerror or error}. "
                "Mend the file system and run the same command again: nothing is lost."
            ) from error

    def reopen(self, batch: Batch) -> None:
        """Let waves look into a batch that they may hold for completed."""
        mark = self._paths.batch_images(batch) / COMPLETED_NAME
        if mark.exists():
            with self._writing() as allowed:
                allowed()
                mark.unlink(missing_ok=True)


def find(batch: Batch, paths: OutputPaths) -> list[Damage]:
    """What is damaged; of images nothing, as long as tables are."""
    folder = paths.batch_images(batch)
    return damaged_tables(folder) or damaged_images(folder, _places(folder))


def _is_cut(batch: Batch, paths: OutputPaths) -> bool:
    return holds_removed(BatchFiles.of(paths.batch_images(batch)))


def mend(batch: Batch, paths: OutputPaths, allowed: Allowed) -> list[Damage]:
    """Take out of use what is damaged in a batch; what that was.

    One process at a time, as `consolidate`. Raises StorageError, LockError, OSError.
    """
    folder = paths.batch_images(batch)
    tables = damaged_tables(folder)
    for damage in sorted(tables, key=lambda damage: damage.path.name == SUCCESSES_NAME):
        _take_out(damage, allowed)  # successes.parquet last: it asks errors.parquet
    images = damaged_images(folder, _places(folder))
    if images:
        remove_images(batch, paths, _marks(images), allowed=allowed)
    drop_removed(BatchFiles.of(folder), allowed)
    return [*tables, *images]


def _places(folder: Path) -> pl.DataFrame:
    return BatchFiles.of(folder).images().select(PLACES).collect()


def _take_out(damage: Damage, allowed: Allowed) -> None:
    allowed()
    path = damage.path
    if path.name in TABLES:
        (path.parent / COMPLETED_NAME).unlink(missing_ok=True)
        _replace_table(path, pl.LazyFrame(schema=_SCHEMAS[path.name]), allowed)
    else:
        shutil.rmtree(path.parent)


def _marks(damages: Sequence[Damage]) -> pl.DataFrame:
    tables = [
        pl.DataFrame({"uuid": damage.uuids}).with_columns(
            tool=pl.lit(TOOL),
            reason=pl.lit(f"{damage.path.name} {damage.what}"),
            refetch=pl.lit(True),
        )
        for damage in damages
    ]
    return pl.concat(tables)


def _replace_table(path: Path, table: pl.LazyFrame, allowed: Allowed) -> None:
    """Replace one of a batch's tables, damaged or gone, by this one, which took in no part.

    The numbers of shards go on from what the other table remembers.
    """
    others = [path.with_name(name) for name in (SUCCESSES_NAME, ERRORS_NAME) if name != path.name]
    whole = [other for other in others if other.exists() and is_whole(other)]
    number = next_number(path.parent, *whole)
    write_table(path, table, {"absorbed": "[]", "next_shard": str(number)}, allowed)
