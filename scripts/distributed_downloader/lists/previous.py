"""`previous_output`: the folder of an earlier run, and which of its rows this list has no more.

1. An image is copied from there if it is of the same URL (as mended), whatever its row is called.
2. A row of there is in this list if the list has its uuid with its URL, or its source_id with its
   URL. Else it becomes a tombstone: of generation 0, its batch being one of that folder.
3. What is stored of an image must be the same in both folders.
"""

import tempfile
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path

import numpy as np
import polars as pl

from distributed_downloader.checksums import is_whole, write_sealed
from distributed_downloader.durable import ORPHAN_PREFIX, remove_orphans, whole_file
from distributed_downloader.errors import FolderError
from distributed_downloader.lists.generations import Generation
from distributed_downloader.lists.graves import GONE, URL_CHANGED, Graves
from distributed_downloader.lists.placed import Hashes, identities, is_among
from distributed_downloader.lists.source import what_fixes
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.settings import Settings

_OF_IMAGES = ("image_size", "images.mode", "images.format", "images.quality")
_log = getLogger(__name__)

_LIST = ("uuid", "source_id", "identifier")


def previous_paths(settings: Settings) -> OutputPaths | None:
    """Where the earlier run's files lie; its folders bear the names that this run gives its own."""
    if settings.previous_output is None:
        return None
    return OutputPaths.of(settings.previous_output, settings.raw["output_structure"])


def check_previous(settings: Settings) -> None:
    """Raise FolderError if nothing can be taken from `previous_output`."""
    previous = previous_paths(settings)
    if previous is None:
        return
    source = Generation.of(previous).source
    if source is None or not previous.partitions.exists():
        raise FolderError(
            f"previous_output is {previous.root}, which holds no {previous.partitions.name} in "
            f"{previous.urls.name}/: give the path_to_output of an earlier run."
        )
    now = what_fixes(settings)
    for name in _OF_IMAGES:
        then = source["settings"].get(name)
        if then != now[name]:
            raise FolderError(
                f"previous_output ({previous.root}) was made with {name} = {then}, not "
                f"{now[name]}: its images cannot be taken over. Put {name} back, or leave "
                "previous_output out."
            )


def bury_previous(settings: Settings) -> int:
    """Write the tombstones of rows that `previous_output` has and this list has not; how many."""
    previous = previous_paths(settings)
    if previous is None:
        return 0
    known = _hashes_of(settings.paths)
    remove_orphans(settings.paths.urls)
    current, buried = Generation.of(previous), 0
    with (
        whole_file(settings.paths.previous_tombstones) as beside,
        tempfile.TemporaryDirectory(prefix=ORPHAN_PREFIX, dir=settings.paths.urls) as scratch,
    ):
        graves = Graves(Path(scratch))
        for names in current.partitions().select("server_name", "partition_id").iter_rows():
            batch = Batch(*names)
            file = previous.batch_urls(batch)
            if not (file.is_file() and is_whole(file)):
                told = "%s is missing or damaged: which of its rows are gone is not known"
                _log.warning(told, file)
                continue
            rows = pl.read_parquet(file, hive_partitioning=False)
            rows = rows.filter(~pl.col("uuid").is_in(current.gone_of(batch).implode()))
            gone = _gone(rows.select(*_LIST, "server"), batch, known)
            buried += gone.height
            graves.add(gone)
        graves.write(beside)
    publish_tombstones(settings.paths)
    return buried


def _gone(rows: pl.DataFrame, batch: Batch, known: Sequence[Hashes]) -> pl.DataFrame:
    """tables.TOMBSTONES of those of these rows that are not in the list: rule 2."""
    by_uuid, by_source, uuids = known
    hashes = _hashed(rows)
    is_here = is_among(hashes[0], by_uuid)
    is_here |= is_among(hashes[1], by_source) & rows["source_id"].is_not_null().to_numpy()
    has_moved = pl.Series(is_among(hashes[2], uuids))
    return rows.with_columns(
        server_name=pl.lit(batch.server_name),
        partition_id=pl.lit(batch.partition_id, pl.Int64),
        reason=pl.when(has_moved).then(pl.lit(URL_CHANGED)).otherwise(pl.lit(GONE)),
        generation=pl.lit(0, pl.Int64),
    ).filter(pl.Series(~is_here))


def publish_tombstones(paths: OutputPaths) -> None:
    """Write urls/tombstones.parquet: those of this folder's own list, then the earlier folder's."""
    files = [Generation.of(paths).tombstones, paths.previous_tombstones]
    files = [file for file in files if file.is_file() and file != paths.tombstones]
    if files:
        with whole_file(paths.tombstones) as beside:
            write_sealed(beside, pl.scan_parquet(files, glob=False))


def _hashed(rows: pl.DataFrame) -> tuple[Hashes, Hashes, Hashes]:
    """Of uuid and URL, of source_id and URL, of uuid alone."""
    uuid, source, url = (rows[name].hash() for name in _LIST)
    return identities(uuid, url), identities(source, url), uuid.to_numpy()


def _hashes_of(paths: OutputPaths) -> list[Hashes]:
    """`_hashed` of all rows that are to be fetched here, each sorted: 24 bytes a row."""
    current = Generation.of(paths)
    found = []
    for server_name, number, _, _ in current.partitions().iter_rows():
        batch = Batch(server_name, number)
        rows = pl.read_parquet(paths.batch_urls(batch), columns=list(_LIST))
        gone = current.gone_of(batch)
        found.append(_hashed(rows.filter(~pl.col("uuid").is_in(gone.implode()))))
    duplicates = pl.read_parquet(current.duplicates)
    if "identifier" in duplicates.columns:
        found.append(_hashed(duplicates))
    empty = np.empty(0, np.uint64)
    return [np.sort(np.concatenate([empty, *each])) for each in zip(*found, strict=True)]
