"""The HDF5 layout of parts and shards, written in a stream and read at random.

    data              uint8   all encoded images, one after the other, contiguous
    offsets           uint64  n + 1: image i is data[offsets[i]:offsets[i + 1]]
    uuid              bytes   fixed length, UTF-8
    original          uint8   the bodies as received (only with images.keep_original)
    original_offsets  uint64  an empty one means: the same bytes as the image, or not kept

Attributes: format_version, server_name, partition_id. The datasets are contiguous, so a reader asks
HDF5 once where they start and then reads the file itself: ten times faster than through HDF5, and
without state that threads or forked processes could share.
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from distributed_downloader.errors import FolderError
from distributed_downloader.paths import Batch

FORMAT_VERSION = 1
CHUNK_BYTES = 4 << 20  # what is copied at once
LOCKING = False  # a file has one writer, then none; cluster file systems may have no locks

Offsets = npt.NDArray[np.uint64]


def offsets_of(sizes: Sequence[int] | npt.NDArray[np.uint64]) -> Offsets:
    """Where each of n things of these sizes starts, and where the last ends."""
    offsets = np.zeros(len(sizes) + 1, dtype=np.uint64)
    np.cumsum(np.asarray(sizes, dtype=np.uint64), out=offsets[1:])
    return offsets


class ImageFileWriter:
    """Fills one image file whose sizes are known before: the bytes come in a stream."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._written = {"data": 0, "original": 0}

    def lay_out(self, name: str, offsets: Offsets) -> None:
        """Announce `data` or `original` with the sizes of its items."""
        offsets_name = "offsets" if name == "data" else f"{name}_offsets"
        self._file.create_dataset(offsets_name, data=offsets)
        self._file.create_dataset(name, shape=(int(offsets[-1]),), dtype=np.uint8)

    def append(self, name: str, chunk: bytes) -> None:
        """Write the next bytes of `data` or `original`."""
        if not chunk:
            return
        values = np.frombuffer(chunk, dtype=np.uint8)
        start = self._written[name]
        self._file[name][start : start + len(values)] = values
        self._written[name] = start + len(values)

    def append_all(self, name: str, items: Sequence[bytes]) -> None:
        """Write many small items in a few writes."""
        pending: list[bytes] = []
        pending_bytes = 0
        for item in items:
            pending.append(item)
            pending_bytes += len(item)
            if pending_bytes >= CHUNK_BYTES:
                self.append(name, b"".join(pending))
                pending, pending_bytes = [], 0
        self.append(name, b"".join(pending))


class _Disk(io.FileIO):
    """The file below a new HDF5 file, whose library goes to pieces where a write fails.

    So none does: the first that the disk refuses is kept in `refused`, and the rest left undone.
    """

    refused: OSError | None = None

    def write(self, data: Any) -> int:
        """All of it, or nothing any more."""
        left = memoryview(data)
        size = left.nbytes
        try:
            while left and self.refused is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.refused = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Where the file ends."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.refused = self.refused or error
            return size or 0


@contextmanager
def new_image_file(path: Path, batch: Batch, uuids: Sequence[str]) -> Iterator[ImageFileWriter]:
    """Yield a writer to a new file at `path`. Raises OSError when the disk does not take it."""
    with _Disk(path, "w+") as disk:
        with h5py.File(disk, "w") as file:
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["server_name"] = batch.server_name
            file.attrs["partition_id"] = batch.partition_id
            names = [uuid.encode() for uuid in uuids]
            width = max(map(len, names), default=1)
            file.create_dataset("uuid", data=np.array(names, dtype=f"S{max(width, 1)}"))
            yield ImageFileWriter(file)
        if disk.refused is not None:
            raise disk.refused


def uuids_of(path: Path) -> list[str]:
    """The rows whose images lie in a file, as the file itself says. Raises as `ImageFile`."""
    try:
        with h5py.File(path, "r", locking=LOCKING) as file:
            return [name.decode(errors="replace") for name in file["uuid"][:].tolist()]
    except FileNotFoundError:
        raise
    except (OSError, KeyError, RuntimeError) as error:
        raise _no_image_file(path, error) from error


def _no_image_file(path: Path, error: Exception) -> FolderError:
    return FolderError(
        f"{path} is no image file of this project ({error}). "
        "Restore it from a copy, or remove it and what its tables say about it."
    )


class ImageFile:
    """An image file open for reading: safe to share between threads, and by forked processes."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError, or FolderError if the file has not our layout."""
        self.path = path
        self._descriptor = -1
        self._offsets: dict[str, Offsets] = {}
        self._starts: dict[str, int] = {}
        try:
            with h5py.File(path, "r", locking=LOCKING) as file:
                self._read_layout(file)
        except FileNotFoundError:
            raise
        except (OSError, KeyError, RuntimeError) as error:
            raise _no_image_file(path, error) from error
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _read_layout(self, file: h5py.File) -> None:
        version = int(file.attrs["format_version"])
        if version != FORMAT_VERSION:
            raise KeyError(f"format_version {version} is newer than {FORMAT_VERSION}")
        for name, offsets_name in (("data", "offsets"), ("original", "original_offsets")):
            if name in file or name == "data":
                self._offsets[name] = file[offsets_name][:]
                self._starts[name] = file[name].id.get_offset() or 0

    def __len__(self) -> int:
        return len(self._offsets["data"]) - 1

    def whole_items(self, name: str) -> npt.NDArray[np.bool_]:
        """Whether the bytes of each item of `data` or `original` lie where they can."""
        if name not in self._offsets:
            return np.ones(len(self), dtype=np.bool_)
        offsets = self._offsets[name]
        end = np.uint64(max(0, os.fstat(self._descriptor).st_size - self._starts[name]))
        return np.asarray((offsets[:-1] <= offsets[1:]) & (offsets[1:] <= end))

    @property
    def has_originals(self) -> bool:
        """Whether bodies as received were kept here."""
        return "original" in self._offsets

    def sizes(self, name: str) -> npt.NDArray[np.uint64]:
        """Bytes of each item of `data` or `original`."""
        if name not in self._offsets:
            return np.zeros(len(self), dtype=np.uint64)
        return np.diff(self._offsets[name])

    def read(self, index: int, name: str = "data") -> bytes:
        """The bytes of one item; empty if it has none."""
        offsets = self._offsets.get(name)
        return b"" if offsets is None else self._pread(name, offsets[index], offsets[index + 1])

    def chunks(self, indexes: npt.NDArray[np.int64], name: str = "data") -> Iterator[bytes]:
        """The bytes of these items, in this order, neighbours read together."""
        offsets = self._offsets.get(name)
        if offsets is None or not len(indexes):
            return
        breaks = np.flatnonzero(np.diff(indexes) != 1) + 1
        for run in np.split(indexes, breaks):
            start, end = int(offsets[run[0]]), int(offsets[run[-1] + 1])
            for first in range(start, end, CHUNK_BYTES):
                yield self._pread(name, first, min(first + CHUNK_BYTES, end))

    def fill(self, buffer: memoryview, indexes: npt.NDArray[np.int64]) -> int:
        """Read these images, in this order, to the start of `buffer`; the bytes they took.

        Neighbours are read together, and nothing is allocated.
        """
        offsets, filled = self._offsets["data"], 0
        for run in np.split(indexes, np.flatnonzero(np.diff(indexes) != 1) + 1):
            start, end = int(offsets[run[0]]), int(offsets[run[-1] + 1])
            while start < end:
                place = self._starts["data"] + start
                read = os.preadv(self._descriptor, [buffer[filled : filled + end - start]], place)
                if read == 0:
                    raise self._is_short()
                start, filled = start + read, filled + read
        return filled

    def _is_short(self) -> FolderError:
        return FolderError(f"{self.path} is shorter than it says. Restore it from a copy.")

    def _pread(self, name: str, start: int | np.uint64, end: int | np.uint64) -> bytes:
        wanted = int(end) - int(start)
        body = os.pread(self._descriptor, wanted, self._starts[name] + int(start))
        if len(body) != wanted:
            raise self._is_short()
        return body

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "ImageFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
