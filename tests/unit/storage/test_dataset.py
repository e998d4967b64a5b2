import io
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from distributed_downloader.errors import FolderError
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.storage import consolidation
from distributed_downloader.storage import dataset as dataset_module
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.storage.dataset import Dataset
from distributed_downloader.storage.dataset_table import TABLE
from distributed_downloader.storage.removal import compact_batch, remove_images
from tests.unit.storage_folder import (
    BATCH,
    NOT_FOUND,
    Folder,
    allowed,
    encoded,
    fetched,
    image_bytes,
    row,
)

OTHER = Batch("b.example.org", 0)


def consolidated(folder):
    consolidate(folder.batch, folder.paths, 100, retries_waves=3, allowed=allowed)


def remove(folder, *numbers, refetch=False):
    which = pl.DataFrame({"uuid": [f"row-{n}" for n in numbers]})
    marks = {"tool": pl.lit("t"), "reason": pl.lit("r"), "refetch": pl.lit(refetch)}
    remove_images(folder.batch, folder.paths, which.with_columns(**marks), allowed=allowed)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def out(folder):
    """Two batches: one with shards and with a part that no table has taken in, one with both."""
    folder.commit({1: "ok", 2: NOT_FOUND, 3: "ok"})
    consolidated(folder)
    folder.commit({4: "ok", 3: "ok"}, wave=1)
    other = Folder(folder.paths.root, OTHER)
    other.clock.now += 500
    other.commit({10: "ok", 11: "ok"})
    consolidated(other)
    return folder.paths.root


UUIDS = ["row-10", "row-11", "row-1", "row-3", "row-4"]


def test_all_images_are_there_once_in_a_stable_order(out):
    with Dataset(out) as dataset:
        assert len(dataset) == 5
        assert [record.uuid for record in dataset] == UUIDS
        assert [record.bytes for record in dataset] == [
            image_bytes(int(uuid.removeprefix("row-"))) for uuid in UUIDS
        ]


def test_the_images_folder_does_as_well(out):
    with Dataset(out / "images") as dataset:
        assert len(dataset) == 5
    with Dataset(str(out)) as dataset:
        assert len(dataset) == 5


def test_by_position_and_by_uuid(out):
    with Dataset(out) as dataset:
        assert dataset[0].uuid == "row-10"
        assert dataset[-1].uuid == "row-4"
        assert dataset["row-3"].position == 3
        assert dataset.bytes("row-4") == dataset.bytes(-1) == image_bytes(4)
        assert "row-3" in dataset
        assert "row-2" not in dataset
        assert 3 not in dataset


@pytest.mark.parametrize("position", [5, -6, 10**9])
def test_a_position_outside_is_an_index_error(out, position):
    with Dataset(out) as dataset, pytest.raises(IndexError, match="dataset of 5 images"):
        dataset[position]


def test_an_unknown_uuid_is_a_key_error(out):
    with Dataset(out) as dataset, pytest.raises(KeyError, match="'row-2'"):
        dataset["row-2"]


def test_rows_belong_to_their_images(out):
    with Dataset(out) as dataset:
        for record in dataset:
            assert record.row["uuid"] == record.uuid
        assert dataset["row-4"].row["title"] == "No. 4"
        assert dataset["row-4"].row["server_name"] == BATCH.server_name
        assert dataset["row-10"].row["server_name"] == OTHER.server_name


def test_the_table_is_lazy_and_in_the_order_of_positions(out):
    with Dataset(out) as dataset:
        table = dataset.table()
        assert isinstance(table, pl.LazyFrame)
        assert table.collect_schema() == TABLE
        found = table.collect()
    assert found["uuid"].to_list() == UUIDS
    assert found["server_name"].to_list() == [OTHER.server_name] * 2 + [BATCH.server_name] * 3
    assert found["partition_id"].to_list() == [0, 0, 3, 3, 3]


def test_many_plain_batches_come_in_order(tmp_path):
    for number in (10, 2, 1):
        folder = Folder(tmp_path, Batch("a.org:80", number))
        folder.commit({number: "ok"})
        consolidated(folder)
    with Dataset(tmp_path) as dataset:
        assert dataset.table().collect()["partition_id"].to_list() == [1, 2, 10]
        assert dataset.table().collect()["server_name"].to_list() == ["a.org:80"] * 3
        assert [record.uuid for record in dataset] == ["row-1", "row-2", "row-10"]


@pytest.mark.parametrize("refetch", [True, False])
def test_removed_images_are_left_out(folder, refetch):
    folder.commit({1: "ok", 2: "ok", 3: "ok"})
    consolidated(folder)
    remove(folder, 2, refetch=refetch)
    with Dataset(folder.paths.root) as dataset:
        assert [record.uuid for record in dataset] == ["row-1", "row-3"]
        assert dataset.table().collect()["uuid"].to_list() == ["row-1", "row-3"]
        assert dataset.bytes("row-3") == image_bytes(3)


def test_images_are_decoded(folder):
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, "PNG")
    writer = folder.writer()
    writer.add_image(row(1), fetched(1), encoded(buffer.getvalue()))
    writer.commit(folder.images, allowed)
    with Dataset(folder.paths.root) as dataset:
        assert dataset.image(0).getpixel((5, 5)) == (255, 0, 0)
        assert dataset[0].image.size == (30, 20)


def test_originals_are_given_back(folder):
    folder.commit({1: "ok"}, keep_original=True)
    consolidated(folder)
    with Dataset(folder.paths.root) as dataset:
        assert dataset.original("row-1") == b"original of " + image_bytes(1)


def test_an_image_that_is_stored_as_it_came_is_its_own_original(folder):
    folder.commit({1: "ok"})
    with Dataset(folder.paths.root) as dataset:
        assert dataset.original(0) == image_bytes(1)


def test_an_original_that_was_not_kept_is_a_key_error(folder):
    writer = folder.writer()
    image = encoded(b"stored")
    changed = type(image)(image.data, None, "0" * 32, image.hashsum_resized, (9, 9), (3, 3), None)
    writer.add_image(row(1), fetched(1), changed)
    writer.commit(folder.images, allowed)
    with Dataset(folder.paths.root) as dataset, pytest.raises(KeyError, match="keep_original"):
        dataset.original(0)


def test_what_is_no_dataset_says_so(tmp_path):
    with pytest.raises(FolderError, match="path_to_output"):
        Dataset(tmp_path)
    with pytest.raises(FolderError, match="nowhere"):
        Dataset(tmp_path / "nowhere")


def test_a_dataset_without_images_is_empty(tmp_path):
    (tmp_path / "images").mkdir()
    with Dataset(tmp_path) as dataset:
        assert len(dataset) == 0
        assert list(dataset) == []
        assert dataset.table().collect().schema == TABLE
        with pytest.raises(KeyError):
            dataset["row-1"]


@pytest.mark.parametrize("consolidates", [True, False])
def test_a_batch_of_errors_alone_has_no_images(out, consolidates):
    failures = Folder(out, Batch("a.example.org", 0))
    failures.commit({1: NOT_FOUND})
    if consolidates:
        consolidated(failures)
    with Dataset(out) as dataset:
        assert [record.uuid for record in dataset] == UUIDS
        assert dataset.row(0)["uuid"] == UUIDS[0]


@pytest.mark.parametrize("has_looked", [True, False])
def test_images_are_found_again_after_a_consolidation(folder, monkeypatch, has_looked):
    monkeypatch.setattr(consolidation, "MAX_SMALL_SHARDS", 1)
    folder.commit({1: "ok", 2: "ok"})
    consolidated(folder)
    folder.commit({3: "ok"}, wave=1)
    with Dataset(folder.paths.root) as dataset:
        if has_looked:
            assert dataset.row(2)["uuid"] == "row-3"
        consolidated(folder)  # the part goes, and the old shard
        for number in (3, 1, 2):
            assert dataset.bytes(f"row-{number}") == image_bytes(number)
            assert dataset.row(f"row-{number}")["title"] == f"No. {number}"


def test_a_file_that_is_missing_is_a_key_error(folder):
    folder.commit({1: "ok"})
    consolidated(folder)
    with Dataset(folder.paths.root) as dataset:
        (folder.images / "images-0.h5").unlink()
        with pytest.raises(KeyError, match="row-1 is gone"):
            dataset.bytes(0)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_few_files_are_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "MAX_OPEN_FILES", 3)
    for number in range(8):
        folder = Folder(tmp_path, Batch("a.org", number))
        folder.commit({number: "ok"})
        consolidated(folder)
    before = open_files()
    with Dataset(tmp_path) as dataset:
        for position in (*range(8), *range(8)):
            assert dataset.bytes(position) == image_bytes(position)
            assert open_files() <= before + 3
    assert open_files() == before


def test_threads_may_share_it(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "MAX_OPEN_FILES", 2)
    for number in range(6):
        folder = Folder(tmp_path, Batch("a.org", number))
        folder.commit({number: "ok"})
    with Dataset(tmp_path) as dataset, ThreadPoolExecutor(8) as pool:
        positions = [n % 6 for n in range(600)]
        assert list(pool.map(dataset.bytes, positions)) == [image_bytes(n) for n in positions]


def test_a_pickled_one_opens_its_files_itself(out):
    with Dataset(out) as dataset:
        dataset.bytes("row-1")
        with pickle.loads(pickle.dumps(dataset)) as copy:
            assert [record.uuid for record in copy] == UUIDS
            assert copy.bytes("row-1") == image_bytes(1)
            assert copy.path == dataset.path


def read_in_worker(dataset, positions, answers):
    answers.put([dataset.bytes(position) for position in positions])


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_read_what_their_parent_reads(out, start):
    context = multiprocessing.get_context(start)
    with Dataset(out) as dataset:
        expected = [record.bytes for record in dataset]
        answers = context.Queue()
        workers = [
            context.Process(target=read_in_worker, args=(dataset, range(5), answers))
            for _ in range(2)
        ]
        for worker in workers:
            worker.start()
        found = [answers.get(timeout=60) for _ in workers]
        for worker in workers:
            worker.join()
        answers.close()
        answers.join_thread()
        assert found == [expected, expected]
        assert [record.bytes for record in dataset] == expected


@pytest.fixture
def out_with_duplicates(out):
    table = pl.DataFrame(
        {
            "uuid": ["again-1", "again-2", "lost"],
            "uuid_main": ["row-3", "row-3", "row-2"],
            "source_id": ["s-1", None, None],
            "identifier": ["http://B.example.org/3#a", "http://b.example.org/3", "x"],
            "license": ["CC0", None, None],
            "habitat": ["bog", "fen", None],
        }
    )
    path = OutputPaths.of(out).duplicates
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write_parquet(path)
    return out


def test_a_duplicate_leads_to_the_image_of_its_url(out_with_duplicates):
    with Dataset(out_with_duplicates) as dataset:
        assert len(dataset) == len(UUIDS)
        assert dataset.bytes("again-1") == dataset.bytes("row-3")
        assert "again-2" in dataset
        assert "lost" not in dataset  # the row that was fetched for it has no image
        with pytest.raises(KeyError, match="'lost'"):
            dataset.bytes("lost")
        copy = pickle.loads(pickle.dumps(dataset))
        assert copy.bytes("again-2") == dataset.bytes("row-3")


def test_a_duplicate_keeps_what_the_list_said_of_it(out_with_duplicates):
    with Dataset(out_with_duplicates) as dataset:
        record = dataset["again-1"]
        main = dataset.row("row-3")
        own = {"uuid": "again-1", "source_id": "s-1", "license": "CC0"}
        assert {name: record.row[name] for name in own} == own
        assert record.row["hashsum_original"] == main["hashsum_original"]
        assert dataset["row-3"].row == main
        habitats = dataset.duplicates().filter(pl.col("uuid_main") == "row-3").collect()
        assert habitats["habitat"].to_list() == ["bog", "fen"]


def test_without_a_table_there_are_no_duplicates(out):
    with Dataset(out) as dataset:
        assert dataset.duplicates().collect().is_empty()


@pytest.mark.parametrize("above", ["year=2024", "server_name=x/partition_id=7", "uuid=5", "a=b=c"])
def test_folders_above_are_no_columns(tmp_path, above):
    for batch in (Batch("a.org:80", 2), Batch("a.org:80", 10), OTHER):
        folder = Folder(tmp_path / above, batch)
        folder.commit({batch.partition_id + 1: "ok"})
        consolidated(folder)
    with Dataset(tmp_path / above) as dataset:
        table = dataset.table()
        assert table.collect_schema() == TABLE
        keys = table.select("uuid", "server_name", "partition_id").collect().rows()
        assert keys == [
            ("row-3", "a.org:80", 2),
            ("row-11", "a.org:80", 10),
            ("row-1", OTHER.server_name, 0),
        ]
        found = table.filter(pl.col("server_name") == "a.org:80", pl.col("partition_id") > 2)
        assert found.collect()["uuid"].to_list() == ["row-11"]


def test_what_another_thread_finds_again_does_not_change_what_is_read(folder, monkeypatch):
    folder.commit(dict.fromkeys(range(6), "ok"))
    consolidated(folder)
    opened, is_told = Dataset._file, threading.Event()

    def open_late(dataset, number):
        file = opened(dataset, number)
        if not is_told.is_set():
            is_told.set()
            remove(folder, 0)
            compact_batch(folder.batch, folder.paths, allowed=allowed)  # all places change
            other = threading.Thread(target=dataset._look_again, args=(0,))
            other.start()
            other.join()
        return file

    monkeypatch.setattr(Dataset, "_file", open_late)
    with Dataset(folder.paths.root) as dataset:
        assert dataset.bytes("row-3") == image_bytes(3)
        assert dataset.bytes("row-3") == image_bytes(3)


def test_a_duplicate_leads_to_what_a_tool_made_of_the_image(out_with_duplicates):
    resized = out_with_duplicates / "tools" / "resize" / "images"
    resized.parent.mkdir(parents=True)
    (out_with_duplicates / "images").rename(resized)
    for path in (resized, resized.parent):
        with Dataset(path) as dataset:
            assert dataset.bytes("again-1") == dataset.bytes("row-3")
            assert dataset["again-1"].row["license"] == "CC0"


def damage_a_page(table):
    body = bytearray(table.read_bytes())
    body[4:200] = bytes(196)
    table.write_bytes(body)


def cut(table):
    os.truncate(table, 500)


def empty(table):
    os.truncate(table, 0)


@pytest.mark.parametrize("damage", [cut, empty, damage_a_page])
@pytest.mark.parametrize("name", ["successes.parquet", "removed.parquet"])
def test_a_damaged_table_is_named(folder, damage, name):
    folder.commit({1: "ok", 2: "ok"})
    consolidated(folder)
    remove(folder, 2)
    damage(folder.images / name)
    with pytest.raises(FolderError, match=rf"{name} is damaged .*run the same command again"):
        Dataset(folder.paths.root)


def test_a_table_that_is_damaged_later_is_named(folder):
    folder.commit({1: "ok"})
    consolidated(folder)
    with Dataset(folder.paths.root) as dataset:
        cut(folder.images / "successes.parquet")
        with pytest.raises(FolderError, match=r"successes\.parquet is damaged"):
            dataset.row(0)
