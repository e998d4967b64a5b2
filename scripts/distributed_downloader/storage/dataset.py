"""Reading the images back, at random or one after the other.

    with Dataset("out") as dataset:
        len(dataset), dataset["<uuid>"].row["title"]
        dataset.image(0).show()
        dataset.table().group_by("server").len().collect()

A Dataset is what the folder held when it was opened, and may be read while a run goes on: images
whose part has been consolidated meanwhile are found again. It may be shared by threads, forked, and
pickled (a worker gets the same images at the same positions, and opens the files itself).
"""

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image

from distributed_downloader.storage.dataset_index import (
    ATTEMPTS,
    DatasetIndex,
    UuidIndex,
    look_at,
    places_of,
)
from distributed_downloader.storage.dataset_table import (
    batch_folders,
    images_folder,
    rows_of,
    table_of,
)
from distributed_downloader.storage.duplicates import OWN, Duplicates
from distributed_downloader.storage.image_files import ImageFile

MAX_OPEN_FILES = 128
MAX_TABLES = 4  # batches whose rows are held in memory

Body = bytes  # the name is a method of Dataset, too


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a dataset; its bytes and its row are read when asked for."""

    dataset: "Dataset" = field(repr=False)
    position: int
    uuid: str

    @property
    def bytes(self) -> Body:
        """The encoded image, as it is stored."""
        return self.dataset.bytes(self.position)

    @property
    def image(self) -> Image.Image:
        """The decoded image."""
        return self.dataset.image(self.position)

    @property
    def row(self) -> dict[str, Any]:
        """Its row of the table; of a duplicate with what the input said of the duplicate itself."""
        is_main = self.dataset.uuid(self.position) == self.uuid
        return self.dataset.row(self.position if is_main else self.uuid)


class Dataset:
    """The images of an output folder (or of its images folder), by position and by uuid.

    The uuid of a duplicate (a row whose URL another row has too) leads to the one image of all.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises FolderError if there is no dataset, or if a table of it is damaged."""
        self.path = images_folder(Path(path))
        self._batches = tuple(batch_folders(self.path))
        self._index = DatasetIndex.of(self._batches)
        self._open()

    def _open(self) -> None:
        self._by_uuid: UuidIndex | None = None  # made when first asked
        self._lock = threading.Lock()
        self._files: OrderedDict[int, ImageFile] = OrderedDict()
        self._tables: OrderedDict[int, pl.DataFrame] = OrderedDict()
        self._duplicates = Duplicates.of_images(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("path", "_batches", "_index")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._open()

    def __len__(self) -> int:
        return len(self._index.uuids)

    def __iter__(self) -> Iterator[ImageRecord]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, key: int | str) -> ImageRecord:
        """The image at a position, negative from the end (IndexError), or of a uuid (KeyError)."""
        position = self.position(key)
        return ImageRecord(self, position, key if isinstance(key, str) else self.uuid(position))

    def __contains__(self, uuid: object) -> bool:
        return isinstance(uuid, str) and self._followed(uuid) is not None

    def uuid(self, position: int) -> str:
        """The uuid of the image at a position."""
        return str(self._index.uuids[self._checked(position)])

    def position(self, key: int | str) -> int:
        """Where an image is, from 0. Raises KeyError for a uuid, IndexError for a position."""
        if not isinstance(key, str):
            return self._checked(key)
        position = self._followed(key)
        if position is None:
            raise KeyError(f"no image of uuid {key!r} in {self.path}")
        return position

    def _followed(self, uuid: str) -> int | None:
        """Where the image of this uuid is, or that of the row that was fetched for it."""
        position = self._find(uuid)
        if position is None and (main := self._duplicates.main_of(uuid)) is not None:
            return self._find(main)
        return position

    def _find(self, uuid: str) -> int | None:
        if self._by_uuid is None:
            self._by_uuid = UuidIndex(self._index.uuids)
        return self._by_uuid.position(uuid)

    def _checked(self, position: int) -> int:
        size = len(self)
        if not -size <= position < size:
            raise IndexError(f"position {position} of a dataset of {size} images ({self.path})")
        return int(position) % size

    def bytes(self, key: int | str) -> Body:
        """The encoded image, as it is stored."""
        return self._read(self.position(key), "data")

    def image(self, key: int | str) -> Image.Image:
        """The decoded image."""
        image = Image.open(io.BytesIO(self.bytes(key)))
        image.load()
        return image

    def original(self, key: int | str) -> Body:
        """The bytes as they were received. Raises KeyError if they were not kept."""
        position = self.position(key)
        body = self._read(position, "original")
        if body:
            return body
        row = self.row(position)
        if row["hashsum_original"] != row["hashsum_resized"]:
            raise KeyError(f"the original of {row['uuid']} was not kept (images.keep_original)")
        return self.bytes(position)

    def row(self, key: int | str) -> dict[str, Any]:
        """The image's row of the table; the rows of a batch are read together.

        Asked by the uuid of a duplicate, what the input said of the duplicate stands in it.
        """
        position = self.position(key)
        row = self._row(position)
        if isinstance(key, str) and row["uuid"] != key:
            own = self._duplicates.row(key) or {}
            row |= {name: own[name] for name in OWN if name in own}
        return row

    def duplicates(self) -> pl.LazyFrame:
        """The rows without an image of their own: uuid, uuid_main, and all that the input said."""
        return self._duplicates.table()

    def _row(self, position: int) -> dict[str, Any]:
        batch = self._index.batch_of(position)
        table = self._table(batch)
        offset = position - int(self._index.starts[batch])
        if offset >= len(table) or table["uuid"][offset] != self._index.uuids[position]:
            table = table.filter(uuid=self._index.uuids[position])
            offset = 0
        if table.is_empty():
            raise KeyError(f"{self._index.uuids[position]} has been removed meanwhile")
        return table.row(offset, named=True)

    def table(self) -> pl.LazyFrame:
        """One row an image, in the order of positions: successes, server_name, partition_id."""
        return table_of(self._batches)

    def close(self) -> None:
        """Close the files; the next read opens them again."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()
            self._tables.clear()

    def __enter__(self) -> "Dataset":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}): {len(self)} images"

    def _read(self, position: int, kind: str) -> Body:
        for attempt in range(ATTEMPTS):
            with self._lock:  # a thread that looks again changes both
                number = int(self._index.numbers[position])
                index = int(self._index.indexes[position])
            try:
                return self._file(number).read(index, kind)
            except FileNotFoundError:
                if attempt < ATTEMPTS - 1:
                    self._look_again(self._index.batch_of(position))
        path = self._index.files[int(self._index.numbers[position])]
        raise KeyError(f"the image of {self._index.uuids[position]} is gone: {path} is missing")

    def _file(self, number: int) -> ImageFile:
        with self._lock:
            file = self._files.get(number)
            if file is None:
                file = self._files[number] = ImageFile(self._index.files[number])
                if len(self._files) > MAX_OPEN_FILES:
                    self._files.popitem(last=False)  # closed when its last reader lets go of it
            else:
                self._files.move_to_end(number)
            return file

    def _table(self, batch: int) -> pl.DataFrame:
        with self._lock:
            if batch not in self._tables:
                self._tables[batch] = look_at(self._batches[batch], rows_of)
                if len(self._tables) > MAX_TABLES:
                    self._tables.popitem(last=False)
            return self._tables[batch]

    def _look_again(self, batch: int) -> None:
        with self._lock:
            self._tables.pop(batch, None)
            self._index.update(batch, places_of(self._batches[batch]))
