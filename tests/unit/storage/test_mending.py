"""What is taken out of use, under which lock, and what of it comes back."""

import errno
import os
from contextlib import contextmanager
from pathlib import Path

import h5py
import polars as pl
import pytest

from distributed_downloader.errors import LockError, StorageError
from distributed_downloader.records import State
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.storage.damage import damaged_images, damaged_tables
from distributed_downloader.storage.mending import PLACES, Mender, mend
from distributed_downloader.waves.writers import writing_alone
from tests.unit.storage_folder import Folder, allowed, failed, image_bytes


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path)
    folder.commit({1: "ok", 2: "ok", 3: failed()}, keep_original=True)
    consolidate(folder.batch, folder.paths, 4, retries_waves=1, allowed=allowed)
    return folder


def states(folder):
    table = BatchFiles.of(folder.images).states(1)
    return dict(table.sort("uuid").select("uuid", "state").iter_rows())


def places(folder):
    return BatchFiles.of(folder.images).images().select(PLACES).collect()


def test_what_is_whole_is_left_alone(folder):
    assert damaged_tables(folder.images) == []
    assert damaged_images(folder.images, places(folder)) == []

    @contextmanager
    def never():
        raise AssertionError("nothing is to be written")
        yield

    assert Mender(folder.paths, never).mend(folder.batch) == []


def test_a_consolidation_that_was_cut_is_no_damage(folder):
    """Its errors.parquet is to come: the parts that successes.parquet names are still there."""
    other = Folder(folder.paths.root / "other")
    part = other.commit({1: "ok", 2: failed()})
    saved = {file.name: file.read_bytes() for file in part.iterdir()}
    consolidate(other.batch, other.paths, 2, retries_waves=1, allowed=allowed)
    (other.images / "errors.parquet").unlink()
    part.mkdir()
    for name, content in saved.items():
        (part / name).write_bytes(content)
    assert damaged_tables(other.images) == []


@pytest.mark.parametrize("name", ["data", "original", "uuid", "offsets", "original_offsets"])
def test_a_change_anywhere_in_a_shard_costs_the_rows_that_it_touches(folder, name):
    with h5py.File(folder.images / "images-0.h5", "r+") as shard:
        values = shard[name][:]
        values[-1] = b"another" if name == "uuid" else values[-1] ^ (1 << 6)
        shard[name][:] = values
    (damage,) = damaged_images(folder.images, places(folder))
    assert damage.uuids == ("row-2",)
    assert [str(d) for d in mend(folder.batch, folder.paths, allowed)] == [str(damage)]
    assert states(folder) == {
        "row-1": State.OK,
        "row-2": State.PENDING,
        "row-3": State.FAILED_FINAL,
    }
    folder.commit({2: "ok"}, wave=1)
    consolidate(folder.batch, folder.paths, 4, retries_waves=1, allowed=allowed)
    assert folder.stored() == {f"row-{n}": image_bytes(n) for n in (1, 2)}


def test_who_may_not_write_mends_nothing(folder):
    os.truncate(folder.images / "successes.parquet", 100)
    before = {file.name: file.read_bytes() for file in folder.images.iterdir()}

    def forbidden():
        raise LockError("taken over")

    with pytest.raises(LockError):
        mend(folder.batch, folder.paths, forbidden)
    assert {file.name: file.read_bytes() for file in folder.images.iterdir()} == before


def test_what_is_mended_by_somebody_else_meanwhile_is_left_alone(folder):
    table = folder.images / "errors.parquet"
    whole = table.read_bytes()
    os.truncate(table, 100)

    @contextmanager
    def slowly():
        table.write_bytes(whole)
        yield allowed

    assert Mender(folder.paths, slowly).mend(folder.batch) == []
    assert states(folder)["row-3"] == State.FAILED_FINAL


def test_it_is_mended_under_the_writer_lock(folder):
    os.truncate(folder.images / "errors.parquet", 100)
    with writing_alone(folder.paths, "a test") as held:
        assert folder.paths.writer_lock.exists()
        assert len(mend(folder.batch, folder.paths, held)) == 1
    assert not folder.paths.writer_lock.exists()
    assert states(folder) == {"row-1": State.OK, "row-2": State.OK}


def test_both_tables_damaged_give_no_number_of_a_shard_out_again(folder):
    for name in ("successes.parquet", "errors.parquet"):
        os.truncate(folder.images / name, 100)
    assert len(mend(folder.batch, folder.paths, allowed)) == 2
    assert states(folder) == {}
    folder.commit({1: "ok"}, wave=1)
    consolidate(folder.batch, folder.paths, 4, retries_waves=1, allowed=allowed)
    assert [file.name for file in folder.images.glob("*.h5")] == ["images-1.h5"]
    table = pl.read_parquet(folder.images / "successes.parquet", hive_partitioning=False)
    assert table["file"].to_list() == ["images-1.h5"]


@pytest.mark.parametrize("name", ["errors.parquet", "images-0.h5"])
@pytest.mark.parametrize("fault", [errno.EIO, errno.EACCES])
def test_what_the_disk_does_not_give_is_not_taken_for_damaged(folder, monkeypatch, name, fault):
    """Else a file system that is away for a moment would have everything fetched again."""
    real = Path.open
    os.truncate(folder.images / name, 100)

    def failing(path, *words, **options):
        if path.name == name:
            raise OSError(fault, os.strerror(fault), str(path))
        return real(path, *words, **options)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(StorageError, match=rf"Cannot read .*{name}: {os.strerror(fault)}"):
        Mender(folder.paths, lambda: writing_alone(folder.paths, "a test")).mend(folder.batch)
    monkeypatch.undo()
    assert damaged_tables(folder.images) or damaged_images(folder.images, places(folder))
