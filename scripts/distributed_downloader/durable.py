"""Files that appear under their name only when whole, and stay after a power cut.

Everything is written beside its final name (`.tmp-*`), fsynced, renamed, and the parent fsynced.
A leftover `.tmp-*` is an orphan: whoever owns the folder removes it at the next start.
"""

import ctypes
import errno
import json
import os
import re
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader.checksums import write_sealed
from distributed_downloader.errors import StorageError, UnreadableError

ORPHAN_PREFIX = ".tmp-"
_ERRNO = re.compile(r"(?:os error |\[Errno )(\d+)")  # in what polars says
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}


def crash_point(name: str) -> None:
    """Die here, as by kill -9, if DOWNLOADER_CRASH_AT says so (tests cut the commits there)."""
    if os.environ.get("DOWNLOADER_CRASH_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)


def fsync_path(path: Path) -> None:
    """Flush a file's, or a folder's, entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, so that they are there after a power cut, too."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        fsync_path(made.parent)


def _beside(path: Path) -> Path:
    return path.with_name(f"{ORPHAN_PREFIX}{uuid.uuid4().hex}-{path.name}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it gets its name when the block ends well, else it is removed.

    Raises StorageError, naming the folder, when the disk does not take it.
    """
    beside = _beside(path)
    try:
        make_folder(path.parent)
        yield beside
        fsync_path(beside)
        beside.replace(path)
        fsync_path(path.parent)
    except (OSError, pl.exceptions.PolarsError) as error:
        _complain(path, error)
        raise
    finally:
        with suppress(OSError):  # of no interest beside what went wrong before
            beside.unlink()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill; it gets its name, with its files fsynced, when the block ends well.

    The name must be free: a commit is never written over. Raises StorageError as `whole_file`.
    """
    beside = _beside(path)
    try:
        make_folder(path.parent)
        beside.mkdir()
        yield beside
        for file in beside.iterdir():
            fsync_path(file)
        fsync_path(beside)
        beside.rename(path)
        fsync_path(path.parent)
    except (OSError, pl.exceptions.PolarsError) as error:
        _complain(path, error)
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def whole_tree(path: Path) -> Iterator[Path]:
    """Yield a folder to fill with many files; it takes the place of `path` at the block's end.

    One sync of the file system instead of one for each file. A kill may leave neither the old nor
    the new folder: only for what is made again then. Raises StorageError as `whole_file`.
    """
    beside = _beside(path)
    try:
        beside.mkdir(parents=True)
        yield beside
        _sync_file_system(beside)
        if path.exists():
            path.rename(_beside(path))
        beside.rename(path)
        fsync_path(path.parent)
    except OSError as error:
        _complain(path, error)
        raise
    finally:
        for orphan in path.parent.glob(f"{ORPHAN_PREFIX}*-{path.name}"):
            shutil.rmtree(orphan, ignore_errors=True)


def _sync_file_system(folder: Path) -> None:
    """syncfs(2), which Python has not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def storage_error(path: Path, error: Exception) -> StorageError | None:
    """The sentence, if it is the file system that this error comes from."""
    hidden = _ERRNO.search(str(error))
    number = error.errno if isinstance(error, OSError) else None
    number = number or (int(hidden[1]) if hidden else None)
    if not isinstance(error, OSError) and number not in _DISK:
        return None
    reason = os.strerror(number) if number else " ".join(str(error).split())
    return StorageError(
        f"Cannot write {path}: {reason}. "
        "Make room (or mend the file system) and run the same command again: nothing is lost."
    )


def _complain(path: Path, error: Exception) -> None:
    told = storage_error(path, error)
    if told is not None:
        raise told from error


def is_disk_error(error: OSError) -> bool:
    """Whether the disk is full, over its quota, read-only or broken."""
    return error.errno in _DISK


def write_text(path: Path, text: str) -> None:
    """Replace the file by this text, durably."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Replace the file by this value as JSON, durably."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file, or None if there is no such file. Raises UnreadableError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UnreadableError(
            f"{path} is empty or damaged ({error}): restore it from a copy, or remove it, and run "
            "the same command again."
        ) from error


def read_derived_json(path: Path) -> Any:
    """The value of a JSON file that is made again: one that is damaged is as good as none."""
    try:
        return read_json(path)
    except UnreadableError:
        return None


def write_parquet(path: Path, table: pl.DataFrame | pl.LazyFrame) -> None:
    """Replace the file by this table and its checksum, durably; a LazyFrame is streamed."""
    with whole_file(path) as beside:
        write_sealed(beside, table)


def remove_orphans(folder: Path, is_dead: Callable[[str], bool] = lambda _: True) -> None:
    """Remove what writers that died left beside the files of this folder.

    `is_dead` is asked by an orphan's name, where others may be at work in the folder.
    """
    for orphan in folder.glob(f"{ORPHAN_PREFIX}*"):
        if not is_dead(orphan.name):
            continue
        if orphan.is_dir():
            shutil.rmtree(orphan, ignore_errors=True)
        else:
            orphan.unlink(missing_ok=True)
