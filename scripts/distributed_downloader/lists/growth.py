"""A list that has changed, in a folder that goes on: the next generation (see `generations`).

Steps, each whole or not at all; after a kill between any two, the same command goes on
1. the new list is read, what is new in it is cut into batches, and what it has lost becomes
   tombstones: all in `generations/next`, which appears when it is whole;
2. the new batches move to where batches lie, one by one;
3. `next` gets its number: from now on the new list counts.
A `next` that was made of a list that has changed since is taken back. Old batches, their uuids and
images are never touched. A list that shares no row with the folder's is refused: it is another one.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from logging import getLogger
from pathlib import Path

import polars as pl

from distributed_downloader import tables
from distributed_downloader.checksums import write_sealed
from distributed_downloader.durable import (
    crash_point,
    fsync_path,
    read_json,
    remove_orphans,
)
from distributed_downloader.errors import FolderError, LedgerError
from distributed_downloader.lists.batching import Placement, place
from distributed_downloader.lists.generations import Generation
from distributed_downloader.lists.graves import GONE, URL_CHANGED, Graves
from distributed_downloader.lists.intake import Counts, counted, sync, taking_in
from distributed_downloader.lists.placed import Hashes, Placed, is_among
from distributed_downloader.lists.source import is_same_list
from distributed_downloader.lists.tables import write_rows
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.settings import Settings
from distributed_downloader.urls.authorities import host_of

NEXT = "next"

_log = getLogger(__name__)


def growth_is_due(settings: Settings) -> int | None:
    """The number of the generation that this run has to make, or to end; None if there is none.

    Reads no list that has the size and time it had. Raises InputError, FolderError.
    """
    paths = settings.paths
    current = Generation.of(paths)
    if current.source is None or not paths.partitions.exists():
        return None
    if (paths.generations / NEXT).exists() or not is_same_list(settings, current.source):
        return current.number + 1
    settled = read_json(current.settled) or {}
    is_settled = settled.get("gone_rows") in (settings.gone_rows, "remove")
    return current.number if current.number and not is_settled else None


def grow_list(
    settings: Settings, group_of: Callable[[str], str] = host_of
) -> tuple[Generation, Counts]:
    """Make the next generation if the list has changed; the one that counts now, and its counts.

    Raises InputError, StorageError, FolderError for a list that shares nothing with the folder's,
    LedgerError if the counts do not add up.
    """
    paths, current = settings.paths, Generation.of(settings.paths)
    remove_orphans(paths.generations)
    coming = Generation(current.number + 1, paths.generations / NEXT)
    if coming.folder.exists() and not is_same_list(settings, coming.source):
        _take_back(paths, current, coming)
    if not coming.folder.exists():
        if is_same_list(settings, current.source):
            return current, Counts(**current.source["counts"])
        _build(settings, current, coming, group_of)
        crash_point("grow:built")
    _move_batches(paths, current, coming)
    crash_point("grow:moved")
    coming.folder.rename(paths.generations / str(coming.number))
    fsync_path(paths.generations)
    crash_point("grow:counts")
    grown = Generation.of(paths)
    counts = Counts(**grown.source["counts"])
    _log.info("the list has changed, generation %d: %s", grown.number, asdict(counts))
    return grown, counts


def _build(
    settings: Settings, current: Generation, coming: Generation, group_of: Callable[[str], str]
) -> None:
    paths = settings.paths
    with taking_in(settings, coming.folder) as intake:
        folder, staged = intake.folder, intake.staged
        crash_point("grow:staged")
        placed = Placed.of(paths, current)
        placement = place(staged, settings.batch_size, group_of, placed)
        gone = _bury(paths, coming, placed, placement, folder)
        kept = len(placed.rows) - int(gone["gone"].sum())
        _check(settings, current, staged.index.height, placement, kept)
        written = write_rows(staged, placement, folder, intake.scratch)
        intake.settle(counted(staged, placement, written, kept, placed.batches.height))
        _write_partitions(placement, gone, folder / "partitions.parquet")
        sync(folder)


def _check(
    settings: Settings, current: Generation, rows: int, placement: Placement, kept: int
) -> None:
    """What stays is counted from both sides: no row is lost, or counted as another."""
    listed = int(placement.is_listed.sum())
    stays = listed - int(placement.rows["batch"].is_not_null().sum())
    if stays != kept:
        raise LedgerError(
            f"Of {rows} rows of the list {stays} have a place already, of the rows in batches "
            f"{kept} are in the list: this is a fault of the program, please report it."
        )
    before = current.source["counts"]["fetchable"]
    if before and not kept:
        names = ", ".join(Path(file["path"]).name for file in current.source["files"][:3])
        raise FolderError(
            f"{settings.paths.root} was made from another list ({names}): none of its {before} "
            f"rows is in {settings.path_to_input}. Put that list back, or give another "
            "path_to_output."
        )


def _bury(
    paths: OutputPaths, coming: Generation, placed: Placed, placement: Placement, folder: Path
) -> pl.DataFrame:
    """Write the tombstones; the old batches with their `rows` and `gone`."""
    listed, uuids = placement.listed
    graves = Graves(folder / ".scratch")
    counts = []
    for batch, numbers in placed.by_batch(~is_among(placed.rows, listed)):
        counts.append((batch.server_name, batch.partition_id, len(numbers)))
        rows = pl.read_parquet(paths.batch_urls(batch), hive_partitioning=False)[numbers]
        graves.add(_tombstones(rows, batch, coming.number, uuids))
    graves.write(folder / coming.tombstones.name)
    keys = ["server_name", "partition_id"]
    kinds = {"server_name": pl.String, "partition_id": pl.Int64, "gone": pl.Int64}
    lost = pl.DataFrame(counts, kinds, orient="row")
    batches = placed.batches.select(tables.PARTITIONS.names())
    batches = batches.join(lost, on=keys, how="left", maintain_order="left")
    return batches.with_columns(pl.col("gone").fill_null(0))


def _tombstones(rows: pl.DataFrame, batch: Batch, number: int, uuids: Hashes) -> pl.DataFrame:
    """tables.TOMBSTONES of these rows; `uuids` are hashes of those that the list has, sorted."""
    is_elsewhere = pl.Series(is_among(rows["uuid"].hash().to_numpy(), uuids))
    reason = pl.when(is_elsewhere).then(pl.lit(URL_CHANGED)).otherwise(pl.lit(GONE))
    return rows.select(
        "uuid",
        "source_id",
        "identifier",
        "server",
        server_name=pl.lit(batch.server_name),
        partition_id=pl.lit(batch.partition_id, pl.Int64),
        reason=reason,
        generation=pl.lit(number, pl.Int64),
    )


def _write_partitions(placement: Placement, old: pl.DataFrame, path: Path) -> None:
    """Every batch, old and new, in the order of their names."""
    new = placement.batches.select(tables.PARTITIONS.names()).cast(tables.PARTITIONS)
    both = pl.concat([old, new.with_columns(gone=pl.lit(0, pl.Int64))])
    write_sealed(path, both.sort("server_name", "partition_id"))


def _new_batches(current: Generation, coming: Generation) -> Iterator[Batch]:
    """Those that the next generation has and the current one has not."""
    keys = ["server_name", "partition_id"]
    new = coming.partitions().join(current.partitions(), on=keys, how="anti")
    yield from (Batch(*names) for names in new.select(keys).sort(keys).iter_rows())


def _move_batches(paths: OutputPaths, current: Generation, coming: Generation) -> None:
    servers = set()
    for batch in _new_batches(current, coming):
        made, place = coming.folder / batch.folder, paths.urls / batch.folder
        servers.add(place.parent)
        if made.exists():  # else it has been moved before a kill
            place.parent.mkdir(exist_ok=True)
            if place.exists():  # of a generation whose tables were damaged, and removed
                shutil.rmtree(place)
            made.rename(place)
            crash_point("grow:batch_moved")
    for server in servers:
        fsync_path(server)
    fsync_path(paths.urls)
    for emptied in coming.folder.glob("server_name=*"):
        shutil.rmtree(emptied)


def _take_back(paths: OutputPaths, current: Generation, coming: Generation) -> None:
    """Undo a generation that has not come to count: its batches go, then itself."""
    for batch in _new_batches(current, coming):
        shutil.rmtree(paths.urls / batch.folder, ignore_errors=True)
        server = (paths.urls / batch.folder).parent
        if server.is_dir() and not any(server.iterdir()):
            server.rmdir()
    crash_point("grow:taken_back")
    shutil.rmtree(coming.folder)
