"""Where exports go: a local folder, or an address that fsspec knows (`s3://bucket/folder`).

A file is there under its name only when it is whole: locally it is written beside, fsynced and
renamed; elsewhere an upload counts when it is committed, as object stores have it.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from distributed_downloader.durable import ORPHAN_PREFIX, remove_orphans, whole_file
from distributed_downloader.errors import ConfigError, StorageError
from distributed_downloader.paths import Batch

MAX_PIECES = 1024  # of one writev: IOV_MAX of Linux
WRITE_BACK_BYTES = 4 << 20

MAX_STEM = 150  # bytes: with what is put before and behind it, a name may have 255

Piece = bytes | memoryview


def plain_name(name: str) -> str:
    """A name that every file system, URL and tar reader takes; different names stay different.

    It is quoted with `~` for `%`, and has no dot: `b.museum:80` is `b~2Emuseum~3A80`.
    """
    return quote(name, safe="").replace("~", "~7E").replace(".", "~2E").replace("%", "~")


def file_stem(server: str) -> str:
    """What the files of a server begin with: `images.example.org~3A8080`.

    Of a long name the beginning and a hash, behind a `~-` that no other name has.
    """
    stem = plain_name(server).replace("~2E", ".")
    if len(stem) <= MAX_STEM:
        return stem
    ending = f"~-{hashlib.blake2b(server.encode(), digest_size=8).hexdigest()}"
    return stem[: MAX_STEM - len(ending)] + ending


def batch_name(batch: Batch) -> str:
    """What the files of a partition begin with: `images.example.org~3A8080-00003`."""
    return f"{file_stem(batch.server_name)}-{batch.partition_id:05}"


def folder_name(batch: Batch) -> str:
    """The folder of a partition's files: `images.example.org~3A8080/00003`."""
    return f"{file_stem(batch.server_name)}/{batch.partition_id:05}"


@dataclass(slots=True)
class Sink:
    """A file that is being written."""

    file: Any  # binary
    path: Path | None  # where it lies for now; None if that is no local file
    _begun: int = 0  # bytes that the disk was asked to write

    def write(self, pieces: Sequence[Piece]) -> None:
        """Append these, one after the other, without copying them where that can be."""
        if self.path is None:
            self.file.write(b"".join(pieces))
            return
        for first in range(0, len(pieces), MAX_PIECES):
            _write_whole(self.file.fileno(), pieces[first : first + MAX_PIECES])
        self.begin_write_back()

    def begin_write_back(self) -> None:
        """Have the disk begin to write what is new, so that it is not all left to the sync."""
        if self.path is None:
            return
        end = (
            os.fstat(self.file.fileno()).st_size - WRITE_BACK_BYTES
        )  # who appends waits for a page
        if end - self._begun >= WRITE_BACK_BYTES:  # Linux writes back what is not needed any more
            new = (self._begun, end - self._begun)
            os.posix_fadvise(self.file.fileno(), *new, os.POSIX_FADV_DONTNEED)
            self._begun = end


def _write_whole(descriptor: int, pieces: Sequence[Piece]) -> None:
    written, whole = os.writev(descriptor, pieces), sum(map(len, pieces))
    if written < whole:  # a signal, or a disk about to be full: the next write says which
        rest = memoryview(b"".join(pieces))[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


class Target:
    """A folder that exports are written to."""

    def __init__(self, address: str | os.PathLike[str]) -> None:
        """Raises ConfigError for an address that fsspec, as it is installed, does not know."""
        self.address = os.fspath(address)
        self._files, self._root = _file_system(self.address)
        self.folder = Path(self._root) if isinstance(self._files, LocalFileSystem) else None

    def path_of(self, name: str) -> str:
        """What fsspec's file system calls a file of this folder."""
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def whole(self, name: str) -> Iterator[Sink]:
        """Yield a file to write to; it appears when the block ends well. Raises StorageError."""
        if self.folder is not None:
            with (
                whole_file(self.folder / name) as beside,
                beside.open("wb", buffering=0) as file,
            ):
                yield Sink(file, beside)
            return
        with (
            self._complaining(name),
            self._files.transaction,
            self._files.open(self.path_of(name), "wb") as file,
        ):
            yield Sink(file, None)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write small files, remote ones together. Raises StorageError."""
        if self.folder is None:
            with self._complaining(next(iter(files), "")):
                self._files.pipe({self.path_of(name): body for name, body in files.items()})
            return
        for name, body in files.items():
            with self.whole(name) as sink:
                sink.write([body])

    def write_json(self, name: str, value: Any) -> None:
        """Replace a file by this value as JSON. Raises StorageError."""
        self.write({name: (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()})

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if it is not there."""
        try:
            self._files.invalidate_cache()
            return int(self._files.size(self.path_of(name)))
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Remove a file or a folder, if it is there."""
        with self._complaining(name):
            self._files.invalidate_cache()
            if self._files.exists(self.path_of(name)):
                self._files.rm(self.path_of(name), recursive=True)

    def remove_orphans(self, batch: Batch) -> None:
        """Remove what a killed writer left of a partition's files; far away nothing is left."""
        if self.folder is not None:
            name = re.escape(batch_name(batch))
            mine = re.compile(rf"{re.escape(ORPHAN_PREFIX)}[0-9a-f]+-{name}-\d+\.\w+")
            remove_orphans(self.folder, lambda orphan: mine.fullmatch(orphan) is not None)

    @contextmanager
    def _complaining(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"Cannot write {self.address.rstrip('/')}/{name}: {str(error) or repr(error)}. "
                "Mend the address or its access rights, and run the same command again."
            ) from error


def _file_system(address: str) -> tuple[AbstractFileSystem, str]:
    try:
        files, root = url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise ConfigError(
            f"Exports cannot go to {address}: {error}. Install the package that fsspec needs for "
            "it (s3fs for s3://, gcsfs for gs://), or mend the address."
        ) from error
    return files, root
