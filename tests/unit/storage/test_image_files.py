"""Image files on file systems without locks, and on disks that take no more."""

import errno
import fcntl
import resource
from contextlib import contextmanager

import pytest

from distributed_downloader.paths import Batch
from distributed_downloader.storage.image_files import (
    ImageFile,
    new_image_file,
    offsets_of,
    uuids_of,
)


def test_a_file_that_somebody_locked_is_written_and_read_all_the_same(tmp_path):
    """HDF5 locks what it opens unless it is told not to, and fails where that cannot be."""
    path = tmp_path / "images.h5"
    path.touch()
    with path.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with new_image_file(path, Batch("a.test", 0), ["one"]) as file:
            for name, items in (("data", [b"image"]), ("original", [])):
                file.lay_out(name, offsets_of([len(item) for item in items]))
                file.append_all(name, items)
        assert uuids_of(path) == ["one"]
        ImageFile(path).close()


@contextmanager
def largest_file(size):
    """So many bytes of a file are written, and no more: EFBIG, as a full disk's ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write(path, data):
    with new_image_file(path, Batch("a.test", 0), [str(n) for n in range(len(data))]) as file:
        file.lay_out("data", offsets_of([len(item) for item in data]))
        file.append_all("data", data)


def test_a_disk_that_takes_no_more_is_an_error_at_whatever_byte(tmp_path, capfd):
    """HDF5 prints a traceback for each thing that it cannot close."""
    path, data = tmp_path / "images.h5", [bytes([n]) * 1000 for n in range(40)]
    write(path, data)
    whole = path.stat().st_size
    for size in range(0, whole, 1500):
        with largest_file(size), pytest.raises(OSError, match="too large") as raised:
            write(path, data)
        assert raised.value.errno == errno.EFBIG
    assert capfd.readouterr().err == ""
    with largest_file(whole):
        write(path, data)
    with ImageFile(path) as file:
        assert [file.read(n) for n in range(40)] == data
