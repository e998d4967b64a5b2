"""From the list to batches: the whole `urls_folder` of one output folder, or nothing of it.

Everything is built in a folder beside and renamed at the end, `partitions.parquet` written last; a
run that is killed leaves an orphan that the next start removes. The same input gives the same
uuids, batches and tables, however many threads read it.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from logging import getLogger
from pathlib import Path

import polars as pl

from distributed_downloader.durable import (
    ORPHAN_PREFIX,
    crash_point,
    fsync_path,
    whole_folder,
    write_json,
    write_parquet,
)
from distributed_downloader.errors import InputError, LedgerError, StorageError
from distributed_downloader.lists.batching import Placement, place
from distributed_downloader.lists.filters import Filters
from distributed_downloader.lists.generations import Generation
from distributed_downloader.lists.inputs import read_files
from distributed_downloader.lists.source import check_folder, gathered, source_of
from distributed_downloader.lists.staging import Staged, stage
from distributed_downloader.lists.tables import Written, write_partitions, write_rows
from distributed_downloader.settings import Settings
from distributed_downloader.urls.authorities import host_of

__all__ = ["Counts", "check_folder", "partition_urls"]

_SYNC_THREADS = 16  # fsync waits for the disk, not for a core

_log = getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the input's rows; kept in source.json."""

    rows: int
    fetchable: int
    duplicates: int
    rejected: int
    servers: int
    batches: int
    repairs: Mapping[str, int]  # by word; a row may count under several
    rejections: Mapping[str, int]


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
    filters = Filters(settings)
    with (
        ThreadPoolExecutor(1) as hasher,
        whole_folder(paths.urls) as folder,
        disk_errors(paths.urls),
    ):
        scratch = folder / ".scratch"
        scratch.mkdir()
        with gathered(settings, scratch) as (files, fingerprints):
            hashes = [hasher.submit(each) for each in fingerprints]
            staged = stage(read_files(files, settings, scratch), scratch, filters)
        if not staged.index.height:
            raise InputError(f"{settings.path_to_input} has no rows; give at least one URL.")
        crash_point("partition:staged")
        placement = place(staged, settings.batch_size, group_of)
        crash_point("partition:placed")
        written = write_rows(staged, placement, folder, scratch)
        crash_point("partition:rows_written")
        counts = counted(staged, placement, written)
        shutil.rmtree(scratch)
        source = source_of(settings, [each.result() for each in hashes], asdict(counts))
        write_json(folder / paths.source.name, source)
        crash_point("partition:source_written")
        write_partitions(placement, folder / paths.partitions.name)
        sync(folder)
        crash_point("partition:synced")
        _move_away(paths.urls)
        crash_point("partition:before_rename")
    crash_point("partition:renamed")
    return counts


def counted(
    staged: Staged, placement: Placement, written: Written, kept: int = 0, old_batches: int = 0
) -> Counts:
    """The counts as the files have them; `kept` rows are in the batches that were there before.

    Raises LedgerError if a row is nowhere, or twice.
    """
    reasons = placement.rows["reason"].drop_nulls().cast(pl.String).value_counts(sort=True)
    counts = Counts(
        rows=staged.index.height,
        fetchable=written.fetchable + kept,
        duplicates=written.duplicates,
        rejected=written.rejected,
        servers=staged.index.filter(placement.is_listed)["server"].n_unique(),
        batches=written.batches + old_batches,
        repairs=dict(staged.repairs.most_common()),
        rejections=dict(reasons.iter_rows()),
    )
    _check(counts)
    return counts


def _check(counts: Counts) -> None:
    found = counts.fetchable + counts.duplicates + counts.rejected
    if found != counts.rows:
        raise LedgerError(
            f"Of {counts.rows} input rows {found} were written ({counts.fetchable} to fetch, "
            f"{counts.duplicates} duplicates, {counts.rejected} rejected): this is a fault of the "
            "program, please report it with the input."
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """polars wraps what the disk says in errors of its own."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        if "os error" not in str(error):
            raise
        cause = str(error).strip().splitlines()[0]
        raise StorageError(
            f"Cannot write {path}: {cause}. Make room and run the same command again."
        ) from error


def sync(folder: Path) -> None:
    """Everything below is on the disk; a folder after what it holds."""
    below = sorted(folder.rglob("*"), key=lambda path: -len(path.parts))
    files = [path for path in below if path.is_file()]
    with ThreadPoolExecutor(_SYNC_THREADS) as threads:
        list(threads.map(fsync_path, files))
        list(threads.map(fsync_path, [path for path in below if path.is_dir()]))


def _move_away(urls: Path) -> None:
    """Free the name: an empty folder that the workflow made, or one that has lost a table."""
    if urls.exists():
        urls.rename(urls.with_name(f"{ORPHAN_PREFIX}{uuid.uuid4().hex}-{urls.name}"))


def _remove_orphans(urls: Path) -> None:
    """What a run that was killed here left beside the folder, and nobody else's."""
    for orphan in urls.parent.glob(f"{ORPHAN_PREFIX}*-{urls.name}"):
        shutil.rmtree(orphan, ignore_errors=True)
