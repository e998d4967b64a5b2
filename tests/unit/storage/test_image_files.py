"""Image files on file systems without locks: nobody asks for one."""

import fcntl

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
