import errno
import os

import polars as pl
import pytest

from distributed_downloader.durable import (
    read_derived_json,
    read_json,
    whole_file,
    whole_folder,
    write_parquet,
)
from distributed_downloader.errors import FolderError, StorageError

HDF5 = (
    "Can't synchronously write data (file write failed: time = Sun Nov 22 22:05:41 2026\n, "
    "filename = 'images.h5', file descriptor = 39, errno = 28, "
    "error message = 'No space left on device', offset = 1953792)"
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (OSError(errno.ENOSPC, HDF5), "No space left on device"),
        (OSError("Disk quota exceeded (os error 122): /x"), os.strerror(122)),
        (OSError("two\n lines"), "two lines"),
        (pl.exceptions.ComputeError("parquet: No space (os error 28)"), "No space left on device"),
        (pl.exceptions.ComputeError("OSError: [Errno 28] No space"), "No space left on device"),
    ],
)
@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_disk_that_does_not_take_it_is_one_sentence(tmp_path, whole, error, reason):
    path = tmp_path / "name"
    with pytest.raises(StorageError) as told, whole(path):
        raise error
    assert str(told.value).startswith(f"Cannot write {path}: {reason}. Make room")
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_does_not_fit_leaves_what_was_there(tmp_path):
    path = tmp_path / "table.parquet"
    write_parquet(path, pl.DataFrame({"a": [1]}))
    failing = pl.LazyFrame({"a": [1]}).map_batches(lambda _: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(Exception, match="no"):
        write_parquet(path, failing)
    assert pl.read_parquet(path)["a"].to_list() == [1]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_what_is_not_the_disks_fault_is_raised_as_it_is(tmp_path, whole):
    fault = pl.exceptions.ComputeError("no such column (os error 2)")
    with pytest.raises(pl.exceptions.ComputeError) as told, whole(tmp_path / "name"):
        raise fault
    assert told.value is fault


@pytest.mark.parametrize("body", [b"", b"\0" * 40, b'{"left": ', b"\xff\xfe"])
def test_json_that_is_damaged_is_named_with_the_way_out(tmp_path, body):
    file = tmp_path / "plan.json"
    file.write_bytes(body)
    with pytest.raises(FolderError, match=r"plan\.json is empty or damaged .*remove it") as told:
        read_json(file)
    assert "\n" not in str(told.value)
    assert isinstance(told.value, ValueError)  # for who takes a copy that cannot be read for none
    assert read_derived_json(file) is None


def test_json_that_is_not_there_is_none(tmp_path):
    assert read_json(tmp_path / "plan.json") is None
    assert read_derived_json(tmp_path / "plan.json") is None
