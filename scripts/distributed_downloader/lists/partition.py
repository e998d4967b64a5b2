"""From the list to batches: the whole `urls_folder` of one output folder, or nothing of it.

Everything is built in a folder beside and renamed at the end, `partitions.parquet` written last; a
run that is killed leaves an orphan that the next start removes. The same input gives the same
uuids, batches and tables, however many threads read it.
"""

import shutil
import uuid
from collections.abc import Callable
from dataclasses import asdict
from logging import getLogger
from pathlib import Path

from distributed_downloader.durable import ORPHAN_PREFIX, crash_point, write_parquet
from distributed_downloader.errors import InputError
from distributed_downloader.lists.batching import place
from distributed_downloader.lists.generations import Generation
from distributed_downloader.lists.intake import Counts, counted, sync, taking_in
from distributed_downloader.lists.source import check_folder
from distributed_downloader.lists.tables import write_partitions, write_rows
from distributed_downloader.settings import Settings
from distributed_downloader.urls.authorities import host_of

__all__ = ["Counts", "check_folder", "partition_urls"]

_log = getLogger(__name__)


def partition_urls(settings: Settings, group_of: Callable[[str], str] = host_of) -> Counts:
    """Write the urls folder, or return its counts if it is whole already.

    `group_of` says which group a server belongs to: tiny servers of one share their batches.
    Raises InputError, FolderError, StorageError, and LedgerError if the counts do not add up.
    """
    check_folder(settings)
    paths = settings.paths
    _remove_orphans(paths.urls)
    current = Generation.of(paths)
    if current.number:  # its batches stay, whatever became of the table of the first ones
        if not paths.partitions.exists():
            write_parquet(paths.partitions, current.partitions().drop("gone"))
        return Counts(**current.source["counts"])
    source = current.source
    if (
        source
        and paths.partitions.exists()
        and paths.rejected.exists()
        and paths.duplicates.exists()
    ):
        return Counts(**source["counts"])
    counts = _build(settings, group_of)
    _remove_orphans(paths.urls)
    _log.info("partitioned %s: %s", settings.path_to_input, asdict(counts))
    return counts


def _build(settings: Settings, group_of: Callable[[str], str]) -> Counts:
    paths = settings.paths
    with taking_in(settings, paths.urls) as intake:
        if not intake.staged.index.height:
            raise InputError(f"{settings.path_to_input} has no rows; give at least one URL.")
        crash_point("partition:staged")
        placement = place(intake.staged, settings.batch_size, group_of)
        crash_point("partition:placed")
        written = write_rows(intake.staged, placement, intake.folder, intake.scratch)
        crash_point("partition:rows_written")
        counts = counted(intake.staged, placement, written)
        intake.settle(counts)
        crash_point("partition:source_written")
        write_partitions(placement, intake.folder / paths.partitions.name)
        sync(intake.folder)
        crash_point("partition:synced")
        _move_away(paths.urls)
        crash_point("partition:before_rename")
    crash_point("partition:renamed")
    return counts


def _move_away(urls: Path) -> None:
    """Free the name: an empty folder that the workflow made, or one that has lost a table."""
    if urls.exists():
        urls.rename(urls.with_name(f"{ORPHAN_PREFIX}{uuid.uuid4().hex}-{urls.name}"))


def _remove_orphans(urls: Path) -> None:
    """What a run that was killed here left beside the folder, and nobody else's."""
    for orphan in urls.parent.glob(f"{ORPHAN_PREFIX}*-{urls.name}"):
        shutil.rmtree(orphan, ignore_errors=True)
