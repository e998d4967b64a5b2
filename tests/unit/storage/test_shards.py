import json
import shutil
from collections import Counter

import h5py
import polars as pl
import pytest

from distributed_downloader.errors import LockError
from distributed_downloader.records import State
from distributed_downloader.storage import consolidation, shards
from distributed_downloader.storage.image_files import ImageFile
from distributed_downloader.storage.parts import list_parts
from distributed_downloader.storage.removal import compact_batch, remove_images
from distributed_downloader.tables import ERRORS, SUCCESSES
from tests.unit.storage.one_batch import consolidated, errors_of, removal, shards_of, states
from tests.unit.storage_folder import BATCH, NOT_FOUND, START, allowed, failed, image_bytes


def test_a_batch_that_was_never_begun_is_all_pending(folder):
    assert consolidated(folder) == Counter(pending=10)
    assert states(folder) == {}
    assert not folder.images.exists()


def test_parts_become_one_shard_and_two_tables(folder):
    folder.commit({1: "ok", 2: NOT_FOUND, 3: "ok"}, rank=0)
    folder.commit({4: "ok", 5: failed()}, rank=1)
    counts = consolidated(folder)
    assert counts == {"ok": 3, "failed_final": 1, "failed_retryable": 1, "pending": 5}
    assert folder.stored() == {f"row-{n}": image_bytes(n) for n in (1, 3, 4)}
    assert shards_of(folder) == ["images-0.h5"]
    assert list_parts(folder.images) == []
    table = pl.read_parquet(folder.images / "successes.parquet", hive_partitioning=False)
    assert table.schema == SUCCESSES
    assert errors_of(folder).schema == ERRORS
    with h5py.File(folder.images / "images-0.h5") as file:
        assert file["data"].chunks is None
        assert file.attrs["server_name"] == BATCH.server_name


def test_more_images_go_into_new_shards(folder):
    folder.commit({1: "ok"})
    consolidated(folder)
    first = (folder.images / "images-0.h5").read_bytes()
    folder.commit({2: "ok"}, wave=1)
    consolidated(folder)
    assert shards_of(folder) == ["images-0.h5", "images-1.h5"]
    assert (folder.images / "images-0.h5").read_bytes() == first
    assert folder.stored() == {"row-1": image_bytes(1), "row-2": image_bytes(2)}


def test_nothing_new_writes_nothing(folder):
    folder.commit({1: "ok", 2: NOT_FOUND})
    consolidated(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.images.iterdir()}
    consolidated(folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.images.iterdir()} == before


def test_a_shard_has_a_limit(folder, monkeypatch):
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 40)
    folder.commit(dict.fromkeys(range(12), "ok"), keep_original=True)
    consolidated(folder)
    assert len(shards_of(folder)) > 3
    assert folder.stored() == {f"row-{n}": image_bytes(n) for n in range(12)}


def test_small_shards_are_merged_when_many(folder, monkeypatch):
    monkeypatch.setattr(consolidation, "MAX_SMALL_SHARDS", 3)
    for number in range(3):
        folder.commit({number: "ok"}, wave=number)
        consolidated(folder)
    assert len(shards_of(folder)) == 3
    folder.commit({3: "ok"}, wave=3)
    consolidated(folder)
    assert shards_of(folder) == ["images-3.h5"]
    assert folder.stored() == {f"row-{n}": image_bytes(n) for n in range(4)}


def test_large_shards_are_left_alone(folder, monkeypatch):
    monkeypatch.setattr(consolidation, "MAX_SMALL_SHARDS", 2)
    monkeypatch.setattr(consolidation, "SMALL_SHARD_BYTES", 1)
    for number in range(5):
        folder.commit({number: "ok"}, wave=number)
        consolidated(folder)
    assert len(shards_of(folder)) == 5


def test_originals_come_along(folder):
    folder.commit({1: "ok"})
    folder.commit({2: "ok"}, keep_original=True)
    consolidated(folder)
    with ImageFile(folder.images / "images-0.h5") as file:
        assert file.read(0, "original") == b""
        assert file.read(1, "original") == b"original of " + image_bytes(2)


def test_a_row_that_came_twice_is_stored_once(folder):
    folder.commit({1: "ok", 2: "ok"}, rank=0)
    folder.commit({1: "ok", 3: "ok"}, rank=1)
    consolidated(folder)
    folder.commit({2: "ok", 4: "ok"}, wave=1)
    consolidated(folder)
    assert sorted(folder.stored()) == ["row-1", "row-2", "row-3", "row-4"]
    with ImageFile(folder.images / "images-0.h5") as file:
        assert len(file) == 3


def test_completed_appears_when_every_row_is_final(folder):
    mark = folder.images / "completed"
    folder.commit({1: "ok", 2: NOT_FOUND, 3: failed()})
    consolidated(folder, total=3)
    assert not mark.exists()
    folder.commit({3: "ok"}, wave=1)
    counts = consolidated(folder, total=3)
    counted = {"rows": 3, "ok": 2, "failed_final": 1}
    told = {**counted, "retries_waves": 3, "retry_wave": 0, "seen": START + 3}
    assert json.loads(mark.read_text()) == told
    assert counts == {"ok": 2, "failed_final": 1}


def test_more_waves_allowed_makes_a_batch_unfinished_again(folder):
    folder.commit({1: failed()})
    consolidated(folder, total=1, retries_waves=1)
    assert (folder.images / "completed").exists()
    consolidated(folder, total=1, retries_waves=2)
    assert not (folder.images / "completed").exists()


def test_a_lost_lock_changes_nothing(folder):
    def forbidden():
        raise LockError("taken over")

    folder.commit({1: "ok"})
    before = sorted(folder.images.iterdir())
    with pytest.raises(LockError):
        consolidated(folder, allowed=forbidden)
    assert sorted(folder.images.iterdir()) == before


def test_orphans_go(folder):
    folder.commit({1: "ok"})
    consolidated(folder)
    (folder.images / ".tmp-1-part-0-0-0").mkdir()
    (folder.images / ".tmp-2-images-1.h5").write_text("half")
    shutil.copy(folder.images / "images-0.h5", folder.images / "images-7.h5")
    consolidated(folder)
    assert shards_of(folder) == ["images-0.h5"]
    assert list(folder.images.glob(".tmp*")) == []


def test_the_name_of_a_shard_is_not_used_again(folder, monkeypatch):
    """Not even when its images are gone: readers may still know it."""
    folder.commit({1: "ok"})
    consolidated(folder)
    remove_images(folder.batch, folder.paths, removal(1), allowed=allowed)
    consolidated(folder)
    assert shards_of(folder) == ["images-0.h5"]  # what was removed can be restored
    compact_batch(folder.batch, folder.paths, allowed=allowed)
    assert shards_of(folder) == []
    folder.commit({2: "ok"}, wave=1)
    consolidated(folder)
    assert shards_of(folder) == ["images-1.h5"]


def test_a_half_deleted_part_is_not_read_again(folder):
    part = folder.commit({1: "ok", 2: failed()})
    shutil.copytree(part, folder.paths.root / "saved")
    consolidated(folder)
    shutil.copytree(folder.paths.root / "saved", part)
    (part / "rows.parquet").unlink()
    assert states(folder) == {"row-1": State.OK, "row-2": State.FAILED_RETRYABLE}
    folder.commit({3: "ok"}, wave=1)
    consolidated(folder)
    assert list_parts(folder.images) == []
    assert sorted(folder.stored()) == ["row-1", "row-3"]
