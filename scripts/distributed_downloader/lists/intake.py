"""A list that is taken in: read and hashed once, for a folder that appears when it is whole.

What comes of its rows is counted from the files that were written.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from distributed_downloader.durable import fsync_path, whole_folder, write_json
from distributed_downloader.errors import LedgerError, StorageError
from distributed_downloader.lists.batching import Placement
from distributed_downloader.lists.filters import Filters
from distributed_downloader.lists.inputs import read_files
from distributed_downloader.lists.source import Fingerprint, gathered, source_of
from distributed_downloader.lists.staging import Staged, stage
from distributed_downloader.lists.tables import Written
from distributed_downloader.settings import Settings

_SYNC_THREADS = 16  # fsync waits for the disk, not for a core


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


@dataclass(frozen=True, slots=True)
class Intake:
    """The list as it was read, and the folder that is made of it."""

    settings: Settings
    folder: Path
    scratch: Path  # in the folder, until it is settled
    staged: Staged
    hashes: Sequence["Future[Fingerprint]"]

    def settle(self, counts: Counts) -> None:
        """Write down which list this was and what came of it; what was needed meanwhile goes."""
        files = [each.result() for each in self.hashes]
        shutil.rmtree(self.scratch)
        source = source_of(self.settings, files, asdict(counts))
        write_json(self.folder / self.settings.paths.source.name, source)


@contextmanager
def taking_in(settings: Settings, folder: Path) -> Iterator[Intake]:
    """Read the list for this folder, which has its name when the block ends well.

    Raises InputError, StorageError.
    """
    filters = Filters(settings)
    with (
        ThreadPoolExecutor(1) as hasher,
        whole_folder(folder) as beside,
        _disk_errors(settings.paths.urls),
    ):
        scratch = beside / ".scratch"
        scratch.mkdir()
        with gathered(settings, scratch) as (files, fingerprints):
            hashes = [hasher.submit(each) for each in fingerprints]
            staged = stage(read_files(files, settings, scratch), scratch, filters)
        yield Intake(settings, beside, scratch, staged, hashes)


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
def _disk_errors(path: Path) -> Iterator[None]:
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
