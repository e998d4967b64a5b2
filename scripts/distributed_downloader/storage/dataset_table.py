"""The folders that a dataset is made of, and their rows as one table."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from distributed_downloader.errors import FolderError
from distributed_downloader.paths import OUTPUT_STRUCTURE, Batch
from distributed_downloader.storage.batch_files import SUCCESSES_NAME, BatchFiles
from distributed_downloader.tables import SUCCESSES

_BATCH: dict[str, type[pl.DataType]] = {"server_name": pl.String, "partition_id": pl.Int64}
TABLE = pl.Schema([*SUCCESSES.items(), *_BATCH.items()])


def images_folder(path: Path) -> Path:
    """The images of an output folder, or the folder itself. Raises FolderError if it has none."""
    path = path.absolute()
    for folder in (path / OUTPUT_STRUCTURE["images_folder"], path):
        if folder.is_dir() and (folder != path or any(folder.glob("server_name=*"))):
            return folder
    raise FolderError(
        f"There is no dataset in {path}: neither an images folder in it nor folders server_name=*. "
        "Give the path_to_output of a run, or its images folder."
    )


def batch_folders(images: Path) -> Iterator[Path]:
    """The folders of all batches, in their order."""
    found = []
    for folder in images.glob("server_name=*/partition_id=*"):
        try:
            found.append((Batch.from_folder(folder), folder))
        except ValueError:
            continue
    yield from (folder for _, folder in sorted(found))


def table_of(folders: Sequence[Path]) -> pl.LazyFrame:
    """TABLE of these batches, in their order."""
    frames: list[pl.LazyFrame] = []
    plain: list[Path] = []
    for folder in folders:
        look = BatchFiles.of(folder)
        if look.is_plain and look.has_successes:
            plain.append(folder)
            continue
        frames += [_scan_plain(plain), rows_of(look)]
        plain = []
    return pl.concat([*frames, _scan_plain(plain)])


def rows_of(look: BatchFiles) -> pl.LazyFrame:
    """TABLE of one batch, parts that no table has taken in among it."""
    batch = Batch.from_folder(look.folder)
    return look.images().with_columns(
        server_name=pl.lit(batch.server_name),
        partition_id=pl.lit(batch.partition_id, pl.Int64),
    )


def _scan_plain(folders: list[Path]) -> pl.LazyFrame:
    """The tables of many batches by one scan.

    polars reads server_name and partition_id from the folders' names, and opens only the tables
    that a filter on them leaves. But it takes every `key=value` folder of the path for a column.
    """
    if not folders:
        return pl.LazyFrame(schema=TABLE)
    paths = [folder / SUCCESSES_NAME for folder in folders]
    if "=" in str(folders[0].parents[1]):
        return _scan_named(paths)
    table = pl.scan_parquet(paths, hive_partitioning=True, hive_schema=_BATCH, glob=False)
    return table.select(TABLE.names())


def _scan_named(paths: list[Path]) -> pl.LazyFrame:
    """The same, with the two columns made from the last two folders alone; all tables are read."""
    servers = {path.parts[-3]: Batch.from_folder(path.parent).server_name for path in paths}
    folders = pl.col("path").str.extract_groups(r"([^/]+)/partition_id=(\d+)/[^/]+$")
    table = pl.scan_parquet(
        paths, hive_partitioning=False, glob=False, include_file_paths="path"
    ).with_columns(
        server_name=folders.struct[0].replace_strict(servers, return_dtype=pl.String),
        partition_id=folders.struct[1].cast(pl.Int64),
    )
    return table.select(TABLE.names())
