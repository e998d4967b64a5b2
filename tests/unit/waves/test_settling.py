"""The end of a wave that was killed: the next one ends it, and opens no finished batch."""

import pytest

from distributed_downloader.durable import crash_point
from distributed_downloader.storage import consolidation
from distributed_downloader.waves import settling
from distributed_downloader.waves.settling import settle_batches
from tests.unit.images_folder import ONE, TWO, ImagesFolder, picture
from tests.unit.storage_folder import Killed, allowed


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A batch of so many small shards that the next part puts them together; it has come."""
    monkeypatch.setattr(consolidation, "MAX_SMALL_SHARDS", 3)
    folder = ImagesFolder(tmp_path)
    for wave in range(3):
        folder.add(ONE, [picture(wave)], wave)
    folder.rows[ONE].append("last")
    folder.store(ONE, {"last": picture(9)}, 3)
    return folder


@pytest.mark.parametrize("point", ["consolidate:after_parts", "consolidate:before_completed"])
def test_what_a_kill_leaves_when_the_parts_are_gone_is_tidied(folder, monkeypatch, point):
    def dies(name):
        crash_point(name)
        if name == point:
            raise Killed

    monkeypatch.setattr(consolidation, "crash_point", dies)
    with pytest.raises(Killed):
        settle_batches(folder.settings, {ONE: 4}, allowed)
    monkeypatch.setattr(consolidation, "crash_point", crash_point)
    assert not list(folder.paths.batch_images(ONE).glob("part-*"))
    assert not (folder.paths.batch_images(ONE) / "completed").exists()

    settle_batches(folder.settings, {ONE: 4}, allowed)
    there = {path.name for path in folder.paths.batch_images(ONE).iterdir()}
    assert there == {"completed", "errors.parquet", "successes.parquet", "images-3.h5"}
    assert folder.images(ONE)["file"].unique().to_list() == ["images-3.h5"]


def test_only_batches_that_need_it_are_consolidated(folder, monkeypatch):
    folder.add(TWO, [picture(20)])
    settle_batches(folder.settings, {ONE: 4, TWO: 1}, allowed)

    def never(*words, **options):
        raise AssertionError

    monkeypatch.setattr(settling, "consolidate", never)
    settle_batches(folder.settings, {ONE: 4, TWO: 1}, allowed)
    (folder.paths.batch_images(TWO) / "completed").unlink()
    with pytest.raises(AssertionError):
        settle_batches(folder.settings, {ONE: 4, TWO: 1}, allowed)
