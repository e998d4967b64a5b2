"""A batch's tables are replaced whole, and note what they have taken in."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from distributed_downloader.checksums import write_sealed
from distributed_downloader.durable import fsync_path, whole_file
from distributed_downloader.errors import FolderError

_NOT_OURS = {"ARROW:schema"}  # what polars itself writes into a table's metadata

Allowed = Callable[[], None]  # raises LockError if this run must not write any more


def write_table(
    path: Path, table: pl.LazyFrame, metadata: dict[str, str], allowed: Allowed
) -> None:
    """Replace a batch's table, unless this run must not write any more."""
    with whole_file(path) as beside:
        write_sealed(beside, table, metadata)
        fsync_path(beside)  # which may take its time: `allowed` is asked right before the rename
        allowed()


def read_metadata(table: Path) -> dict[str, str]:
    """What our writers noted in a table: the parts it has taken in, the next shard's number, ...

    Nothing if there is no such table. Raises FolderError if it is damaged.
    """
    try:
        metadata = pl.read_parquet_metadata(table)
    except FileNotFoundError:
        return {}
    except pl.exceptions.PolarsError as error:
        raise damaged_table(str(table), error) from error
    return {name: metadata[name] for name in metadata if name not in _NOT_OURS}


def damaged_table(which: str, error: Exception) -> FolderError:
    """The sentence for a table that cannot be read."""
    return FolderError(
        f"{which} is damaged ({' '.join(str(error).split())}). Verify takes what is damaged out of "
        "use: run the same command again, which fetches what is lost, or restore it from a copy."
    )
