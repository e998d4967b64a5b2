"""A changed list put into effect: what follows from it in the images folder and beside the batches.

It is done again after a kill, until the generation's `settled.json` says that it is done:
1. urls/rejected.parquet, duplicates.parquet and tombstones.parquet are those of the list of now;
2. a batch to which a row has come back is finished no longer;
3. images of a row whose uuid has another URL now leave the dataset, and with `gone_rows: remove` so
   do those of rows that are gone (removed.parquet). A row that comes back is fetched again.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from distributed_downloader.courtesy.groups import group_of
from distributed_downloader.durable import crash_point, whole_file, write_json
from distributed_downloader.lists.generations import Generation, rows_by_batch
from distributed_downloader.lists.graves import URL_CHANGED
from distributed_downloader.lists.growth import grow_list
from distributed_downloader.lists.intake import Counts
from distributed_downloader.lists.previous import (
    bury_previous,
    previous_paths,
    publish_tombstones,
)
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.settings import Settings
from distributed_downloader.storage.batch_files import COMPLETED_NAME
from distributed_downloader.storage.previous import copy_images
from distributed_downloader.storage.removal import remove_images
from distributed_downloader.tables import TOMBSTONES
from distributed_downloader.waves.settling import settle_batches

TOOL = "list"  # in removed.parquet: who took the image out
_KEYS = ["server_name", "partition_id"]

_log = logging.getLogger(__name__)


def grow(settings: Settings, allowed: Callable[[], None]) -> tuple[Generation, Counts]:
    """Take the list of now for that of the folder. Raises as `grow_list`, and LockError."""
    generation, counts = grow_list(settings, lambda server: group_of(server, settings.politeness))
    if generation.number:
        take_over(settings, allowed)
        _settle(settings, generation, allowed)
    return generation, counts


def take_over(settings: Settings, allowed: Callable[[], None]) -> int:
    """Copy what `previous_output` has, and bury what it alone has; how many images were copied."""
    previous = previous_paths(settings)
    if previous is None:
        return 0
    copied = copy_images(settings, previous, allowed)
    crash_point("previous:copied")
    settle_batches(settings, rows_by_batch(settings.paths), allowed)
    buried = bury_previous(settings)
    crash_point("previous:buried")
    told = "%d images were copied from %s, %d of its rows are gone"
    _log.info(told, copied, previous.root, buried)
    return copied


def _settle(settings: Settings, generation: Generation, allowed: Callable[[], None]) -> None:
    paths = settings.paths
    for table in (generation.rejected, generation.duplicates):
        with whole_file(paths.urls / table.name) as beside:
            shutil.copyfile(table, beside)
    publish_tombstones(paths)
    crash_point("grow:published")
    for batch in _came_back(paths, generation):
        (paths.batch_images(batch) / COMPLETED_NAME).unlink(missing_ok=True)
    is_removed = pl.col("reason").is_in([URL_CHANGED])
    leaving = is_removed | pl.lit(settings.gone_rows == "remove")
    for batch, rows in _by_batch(generation.tombstones, leaving):
        if paths.batch_images(batch).is_dir():
            which = rows.select("uuid", "reason", tool=pl.lit(TOOL), refetch=pl.lit(True))
            removed = remove_images(batch, paths, which, allowed=allowed)
            _log.info("%d images of %s left the dataset with their rows", removed, batch.folder)
            crash_point("grow:batch_removed")
    write_json(generation.settled, {"gone_rows": settings.gone_rows})
    crash_point("grow:settled")


def _came_back(paths: OutputPaths, generation: Generation) -> Iterator[Batch]:
    """Batches with a row that was a tombstone in the list before, and is none now."""
    before = Generation(generation.number - 1, paths.generations / str(generation.number - 1))
    if not before.tombstones.is_file():
        return
    keys = ["uuid", *_KEYS]
    was, now = (pl.scan_parquet(each.tombstones).select(keys) for each in (before, generation))
    back = was.join(now, on=keys, how="anti").select(_KEYS).unique().sort(_KEYS)
    for names in back.collect(engine="streaming").iter_rows():
        yield Batch(*names)


def _by_batch(tombstones: Path, leaving: pl.Expr) -> Iterator[tuple[Batch, pl.DataFrame]]:
    """The tombstones that are meant, a batch at a time."""
    table = pl.scan_parquet(tombstones).select(TOMBSTONES.names()).filter(leaving)
    for names in table.select(_KEYS).unique().sort(_KEYS).collect(engine="streaming").iter_rows():
        batch = Batch(*names)
        is_mine = (pl.col("server_name") == names[0]) & (pl.col("partition_id") == names[1])
        yield batch, table.filter(is_mine).collect()
