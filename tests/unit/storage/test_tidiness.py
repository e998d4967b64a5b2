"""What a kill leaves of a removal, of its undoing, and of compact: it holds, and it is tidied."""

from contextlib import contextmanager

import polars as pl
import pytest

from distributed_downloader.durable import crash_point
from distributed_downloader.records import State
from distributed_downloader.storage import removal, shards
from distributed_downloader.storage.batch_files import BatchFiles, read_states
from distributed_downloader.storage.consolidation import consolidate, is_settled
from distributed_downloader.storage.image_files import uuids_of
from distributed_downloader.storage.mending import Mender
from distributed_downloader.storage.removal import compact_batch, remove_images, restore_images
from tests.unit.storage_folder import Folder, Killed, allowed, failed, image_bytes

WAVES = 1


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path)
    folder.commit({1: "ok", 2: "ok", 3: "ok"})
    consolidated(folder)
    return folder


def consolidated(folder, total=3):
    return consolidate(folder.batch, folder.paths, total, retries_waves=WAVES, allowed=allowed)


def states(folder):
    table = read_states(folder.batch, folder.paths, WAVES).sort("uuid")
    return table["state"].to_list()


def remove(folder, *numbers, refetch=False):
    uuids = [f"row-{number}" for number in numbers]
    said = {"tool": "size_based", "reason": "too small", "refetch": refetch}
    which = pl.DataFrame({"uuid": uuids, **said})
    return remove_images(folder.batch, folder.paths, which, allowed=allowed)


def restore(folder):
    return restore_images(folder.batch, folder.paths, "size_based", allowed=allowed)


@contextmanager
def killed_at(point):
    """What is done here must come to this point, and goes no further."""

    def dies(name):
        crash_point(name)
        if name == point:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        for module in (removal, shards):
            patch.setattr(module, "crash_point", dies)
        yield


def cut_removal(folder, **changes):
    with killed_at("remove:after_removed"):
        remove(folder, 1, 2, **changes)


def cut_undoing(folder):
    remove(folder, 1, 2)
    with killed_at("restore:after_successes"):
        restore(folder)


@pytest.fixture(params=[cut_removal, cut_undoing])
def cut(folder, request):
    """Two images are removed, and successes.parquet has them."""
    request.param(folder)
    assert sorted(folder.stored()) == ["row-1", "row-2", "row-3"]
    assert states(folder) == [State.REMOVED, State.REMOVED, State.OK]
    return folder


def test_compact_does_not_keep_what_a_cut_removal_took_out(cut):
    before = (cut.images / "images-0.h5").stat().st_size
    reclaimed = compact_batch(cut.batch, cut.paths, allowed=allowed)
    (shard,) = cut.images.glob("images-*.h5")
    assert list(uuids_of(shard)) == ["row-3"]
    assert reclaimed == before - shard.stat().st_size
    assert cut.stored() == {"row-3": image_bytes(3)}
    assert restore(cut).lost == 2


def test_the_next_consolidation_ends_a_cut_removal(cut):
    assert not is_settled(cut.images, 3)
    assert consolidated(cut) == {"removed": 2, "ok": 1}
    assert list(cut.stored()) == ["row-3"]
    assert (cut.images / "completed").exists()
    assert restore(cut).images == 2
    assert cut.stored() == {f"row-{n}": image_bytes(n) for n in (1, 2, 3)}


def test_verify_ends_a_cut_removal_once_and_with_the_writer_lock(cut):
    opened = []

    @contextmanager
    def writing():
        opened.append(cut.batch)
        yield allowed

    for _ in range(2):
        assert Mender(cut.paths, writing).mend(cut.batch) == []
    assert opened == [cut.batch]
    assert list(cut.stored()) == ["row-3"]


def test_another_removal_ends_a_cut_one(cut):
    assert remove(cut, 3) == 1
    assert cut.stored() == {}


def test_what_is_fetched_again_after_a_cut_removal_counts(folder):
    cut_removal(folder, refetch=True)
    folder.commit({1: "ok"}, wave=1)
    assert states(folder) == [State.OK, State.PENDING, State.OK]
    assert consolidated(folder) == {"ok": 2, "pending": 1}
    removed = BatchFiles.of(folder.images).removed().collect()
    assert removed["uuid"].to_list() == ["row-2"]


@pytest.mark.parametrize("point", ["consolidate:after_shard", "compact:after_successes"])
def test_a_cut_compact_leaves_a_batch_that_is_tidied(folder, point):
    remove(folder, 1)
    consolidated(folder)
    with killed_at(point):
        compact_batch(folder.batch, folder.paths, allowed=allowed)
    assert not is_settled(folder.images, 3)
    consolidated(folder)
    assert is_settled(folder.images, 3)
    look = BatchFiles.of(folder.images)
    named = {*look.table().collect()["file"], *look.removed().collect()["file"]}
    assert named == {path.name for path in folder.images.glob("images-*.h5")}
    assert compact_batch(folder.batch, folder.paths, allowed=allowed) > 0
    consolidated(folder)
    assert len(list(folder.images.glob("images-*.h5"))) == 1


def test_a_batch_that_is_completed_is_not_opened_to_see_that_it_is_settled(folder):
    for name in ("successes.parquet", "errors.parquet"):
        (folder.images / name).write_bytes(b"not to be read")
    assert is_settled(folder.images, 3)


def test_a_batch_with_rows_left_is_settled_until_something_lies_about(folder):
    assert consolidated(folder, total=9)["pending"] == 6
    assert not (folder.images / "completed").exists()
    assert is_settled(folder.images, 9)
    (folder.images / "images-7.h5").write_bytes((folder.images / "images-0.h5").read_bytes())
    assert not is_settled(folder.images, 9)
    consolidated(folder, total=9)
    assert is_settled(folder.images, 9)
    folder.commit({4: failed()}, wave=1)
    assert not is_settled(folder.images, 9)


def test_a_folder_that_is_not_there_is_settled_and_a_damaged_table_is_not(folder, tmp_path):
    assert is_settled(tmp_path / "nothing", 9)
    (folder.images / "completed").unlink()
    (folder.images / "successes.parquet").write_bytes(b"damaged")
    assert not is_settled(folder.images, 9)
