"""Where each image of a dataset lies: a few small columns, in the order of positions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.storage.batch_tables import damaged_table
from distributed_downloader.storage.damage import damaged_tables
from distributed_downloader.tables import SUCCESSES

ATTEMPTS = 5  # a run may consolidate while we look

_PLACES = pl.Schema({name: SUCCESSES[name] for name in ("uuid", "file", "index")})


@dataclass(slots=True)
class DatasetIndex:
    """Where each image lies: small columns for all of them, in the order of positions."""

    folders: tuple[Path, ...]  # by batch
    starts: npt.NDArray[np.int64]  # first position of each batch, and the end
    uuids: pl.Series
    files: list[Path]
    numbers: npt.NDArray[np.int32]  # in `files`
    indexes: npt.NDArray[np.int64]  # in the file

    @classmethod
    def of(cls, folders: tuple[Path, ...]) -> "DatasetIndex":
        """Look into the folders of these batches."""
        tables = [places_of(folder) for folder in folders]
        starts = np.zeros(len(tables) + 1, dtype=np.int64)
        np.cumsum([len(table) for table in tables], out=starts[1:])
        table = pl.concat([_PLACES.to_frame(), *tables])
        empty = np.zeros(len(table), dtype=np.int32)
        index = cls(folders, starts, table["uuid"].rechunk(), [], empty, table["index"].to_numpy())
        index.indexes = index.indexes.copy()
        for batch, places in enumerate(tables):
            start, end = int(starts[batch]), int(starts[batch + 1])
            index.numbers[start:end] = index._numbers_of(batch, places["file"])
        return index

    def _numbers_of(self, batch: int, files: pl.Series) -> npt.NDArray[np.int32]:
        first = len(self.files)
        names = files.unique(maintain_order=True)
        self.files += [self.folders[batch] / name for name in names]
        numbers = {name: first + number for number, name in enumerate(names)}
        return files.replace_strict(numbers, return_dtype=pl.Int32).to_numpy()

    def batch_of(self, position: int) -> int:
        """The batch of an image, by its place in `folders`."""
        return int(np.searchsorted(self.starts, position, side="right")) - 1

    def update(self, batch: int, places: pl.DataFrame) -> None:
        """Note where the batch's images lie now; those that are gone stay where they were."""
        start, end = int(self.starts[batch]), int(self.starts[batch + 1])
        numbers = self._numbers_of(batch, places["file"])
        rows = {uuid: row for row, uuid in enumerate(places["uuid"])}
        for position, uuid in enumerate(self.uuids[start:end], start):
            if (row := rows.get(uuid)) is not None:
                self.numbers[position] = numbers[row]
                self.indexes[position] = places["index"][row]


class UuidIndex:
    """Position by uuid: hashes, sorted, and where they come from; a tenth of a dict.

    Hashes hold in one process alone: it is not pickled.
    """

    def __init__(self, uuids: pl.Series) -> None:
        self._uuids = uuids
        hashes = np.fromiter(map(hash, uuids), np.int64, len(uuids))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def position(self, uuid: str) -> int | None:
        """Where it is; None if it is not there."""
        wanted = hash(uuid)
        for place in range(int(self._hashes.searchsorted(wanted)), len(self._hashes)):
            if self._hashes[place] != wanted:
                break
            if self._uuids[int(self._order[place])] == uuid:
                return int(self._order[place])
        return None


def places_of(folder: Path) -> pl.DataFrame:
    """Where the images of a batch lie now, in the order of `BatchFiles.images`."""
    return look_at(folder, lambda look: look.images().select(_PLACES.names()))


def look_at(folder: Path, rows: Callable[[BatchFiles], pl.LazyFrame]) -> pl.DataFrame:
    """Rows of a batch, as they are now. Raises FolderError, naming the table that is damaged."""
    for attempt in range(ATTEMPTS):
        try:
            return rows(BatchFiles.of(folder)).collect()
        except FileNotFoundError:  # consolidated between two looks
            if attempt == ATTEMPTS - 1:
                raise
        except pl.exceptions.PolarsError as error:
            paths = [damage.path for damage in damaged_tables(folder)]
            which = str(paths[0]) if paths else f"A table in {folder}"
            raise damaged_table(which, error) from error
    raise AssertionError("unreachable")
