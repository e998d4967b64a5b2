import json
from itertools import count, pairwise

import fsspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.exports.blocks import cut
from distributed_downloader.exports.shards import Notes, ShardFormat, write_index, write_shards
from distributed_downloader.exports.targets import Target
from distributed_downloader.paths import Batch
from distributed_downloader.storage.removal import remove_images
from tests.unit.exports.image_batch import partition, store
from tests.unit.storage_folder import BATCH, Folder, allowed

OTHER = Batch("b.example.org", 0)


class Killed(BaseException):
    """The process ends here."""


class Export:
    """Shards of the images' bytes alone; it counts those it writes, and may be cut."""

    def __init__(self, root, address=None):
        self.root = root
        self.target = Target(address or root / "out")
        self.notes = Notes(root / "notes")
        self.form = ShardFormat("raw", self.write, lambda rows: rows)
        self.written = 0
        self.cut_at = None

    def write(self, sink, blocks):
        self.written += 1
        images = 0
        for block in blocks:
            sink.write(block.images)
            images += len(block.images)
        if self.written == self.cut_at:
            raise Killed
        return images

    def run(self, batch=BATCH, most_bytes=1):
        return write_shards(
            self.form, self.target, self.notes, partition(self.root, batch), most_bytes
        )

    def files(self):
        system, root = fsspec.core.url_to_fs(self.target.address)
        return {path.rpartition("/")[2]: system.cat_file(path) for path in system.find(root)}


@pytest.fixture(params=["local", "memory"])
def export(request, tmp_path):
    fsspec.filesystem("memory").store.clear()
    return Export(tmp_path, "memory://out" if request.param == "memory" else None)


def test_a_killed_export_goes_on_behind_the_last_whole_shard(export):
    stored = store(export.root, range(6))
    export.cut_at = 4
    with pytest.raises(Killed):
        export.run()
    assert len(export.files()) == 3
    export.cut_at = None
    assert export.run() == 6
    assert export.written == 4 + 3
    assert sorted(export.files().values()) == sorted(stored.values())


def test_finished_shards_are_not_written_again(export):
    store(export.root, range(6))
    export.run()
    export.run()
    assert export.written == 6


def test_a_shard_that_was_lost_or_cut_is_written_again(export):
    store(export.root, range(6))
    export.run()
    whole = export.files()
    one, two, *_ = sorted(whole)
    export.target.remove(one)
    export.target.write({two: b"short"})
    export.run()
    assert export.written == 8
    assert export.files() == whole


def test_fewer_images_leave_fewer_shards(export):
    stored = store(export.root, range(6))
    export.run()
    gone = pl.DataFrame({"uuid": ["row-0", "row-5"]}).with_columns(
        tool=pl.lit("t"), reason=pl.lit("r"), refetch=pl.lit(False)
    )
    remove_images(BATCH, Folder(export.root).paths, gone, allowed=allowed)
    assert export.run() == 4
    kept = [body for uuid, body in stored.items() if uuid not in ("row-0", "row-5")]
    assert sorted(export.files().values()) == sorted(kept)


def test_the_index_names_what_is_there_and_what_left_the_dataset_goes(export):
    store(export.root, range(6))
    store(export.root, range(6, 10), batch=OTHER)
    for batch in (BATCH, OTHER):
        export.run(batch)
    counts = write_index(export.target, export.notes, [BATCH, OTHER])
    assert (counts["shards"], counts["images"]) == (10, 10)
    assert write_index(export.target, export.notes, [BATCH])["images"] == 6
    told = json.loads(export.files()["shards.json"])
    assert {file["name"] for file in told["files"]} == export.files().keys() - {"shards.json"}
    assert sum(file["bytes"] for file in told["files"]) == told["bytes"]


@given(st.lists(st.integers(1, 50)), st.integers(1, 100))
def test_a_cut_keeps_every_row_once_and_no_part_is_too_large(sizes, most):
    rows = pl.DataFrame(
        {"at": range(len(sizes)), "bytes": sizes}, {"at": pl.Int64, "bytes": pl.Int64}
    )
    parts = list(cut(rows, most))
    assert [at for part in parts for at in part["at"]] == list(range(len(sizes)))
    assert all(part["bytes"].sum() <= most or len(part) == 1 for part in parts)
    following = pairwise(parts)
    assert all(one["bytes"].sum() + two["bytes"][0] > most for one, two in following)


def test_a_run_that_must_end_ends_between_blocks(tmp_path):
    export = Export(tmp_path)
    store(tmp_path, range(6))
    images = partition(tmp_path)
    ticks = count(1)

    def tick(number):
        if next(ticks) == 3:
            raise Killed

    images = type(images)(images.batch, images.folder, images.rows, tick)
    with pytest.raises(Killed):
        write_shards(export.form, export.target, export.notes, images, 1)
    assert 1 < len(export.files()) < 6


def test_what_a_killed_export_left_half_written_goes_and_nothing_of_others(tmp_path):
    export = Export(tmp_path)
    store(tmp_path, range(6))
    name = "images.example.org~3A8080-00003"
    mine = f".tmp-{'0a' * 16}-{name}-000.raw"
    others = [
        f".tmp-{'0a' * 16}-x-{name}-000.raw",
        f".tmp-{'0a' * 16}-{name}-00001-000.raw",
        f".tmp-{'0a' * 16}-shards.json",
    ]
    export.target.write(dict.fromkeys((mine, *others), b"half"))
    assert export.run() == 6
    hidden = {file.name for file in (tmp_path / "out").glob(".tmp-*")}
    assert hidden == set(others)
