"""resize: a folder of the same shape, or in place; again only for what is new."""

import io
import itertools
import signal
import threading

import pytest
from PIL import Image

from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.codec.images import encode
from distributed_downloader.codec.processes import Codec
from distributed_downloader.errors import ToolError
from distributed_downloader.records import Fetched, Known, Row
from distributed_downloader.storage.dataset import Dataset
from distributed_downloader.storage.parts import PartNames, PartWriter
from distributed_downloader.toolbox import resize
from distributed_downloader.tools import job as module
from distributed_downloader.tools.job import Job
from tests.unit.images_folder import ONE, TWO, ImagesFolder, picture


@pytest.fixture
def folder(tmp_path):
    folder = ImagesFolder(tmp_path)
    folder.add(ONE, [picture(1, (400, 200)), picture(2, (50, 80)), picture(3, (90, 300))])
    folder.add(TWO, [picture(4, (200, 200))])
    folder.set(new_resize_size=100)
    return folder


def sizes(root):
    """uuid -> size as decoded, and as the table says; images read back by uuid."""
    with Dataset(root) as dataset:
        for record in dataset:
            assert list(record.image.size[::-1]) == list(record.row["resized_size"])
        return {record.uuid: record.image.size for record in dataset}


SMALL = {"a-0": (100, 50), "a-1": (50, 80), "a-2": (30, 100), "b-0": (100, 100)}


def test_a_folder_of_the_same_shape(folder):
    before = sizes(folder.paths.root)
    assert folder.run("resize")["images"] == 4
    made = folder.paths.tools / "resize"
    assert sizes(made) == SMALL
    assert sizes(folder.paths.root) == before
    files = {path.name for path in (made / "images" / ONE.folder).iterdir()}
    assert files == {"images-0.h5", "successes.parquet"}
    with Dataset(made) as dataset, Dataset(folder.paths.root) as stored:
        assert dataset.bytes("a-1") == stored.bytes("a-1")  # never enlarged, nor encoded again
        columns = stored.table().collect_schema().names()
        assert dataset.table().collect_schema().names() == columns
    assert folder.run("resize") is None


def test_only_what_is_new_is_resized_and_what_is_gone_is_forgotten(folder):
    folder.run("resize")
    made = folder.paths.tools / "resize" / "images" / ONE.folder
    first = (made / "images-0.h5").stat().st_ino
    folder.add(ONE, [picture(7, (500, 300))], wave=1)
    folder.set(threshold_size=60)
    folder.run("size_based")  # a-1
    assert folder.run("resize")["partitions"] == 1
    expected = {k: v for k, v in SMALL.items() if k != "a-1"} | {"a-3": (100, 60)}
    assert sizes(folder.paths.tools / "resize") == expected
    assert (made / "images-0.h5").stat().st_ino == first
    folder.set(threshold_size=250)
    folder.run("size_based")  # all but a-3
    folder.run("resize")
    assert sizes(folder.paths.tools / "resize") == {"a-3": (100, 60)}


def test_another_size_makes_all_anew(folder):
    folder.run("resize")
    folder.set(new_resize_size=40)
    assert folder.run("resize")["images"] == 4
    assert max(max(size) for size in sizes(folder.paths.tools / "resize").values()) == 40
    made = folder.paths.tools / "resize" / "images" / ONE.folder
    assert {path.name for path in made.glob("*.h5")} == {"images-1.h5"}


def test_in_place_the_stored_images_are_replaced(folder):
    folder.set(resize_in_place=True)
    assert folder.run("resize")["images"] == 4
    assert sizes(folder.paths.root) == SMALL
    assert not (folder.paths.tools / "resize" / "images").exists()
    assert verify_dataset(folder.settings)["states"]["ok"] == 4
    assert folder.run("image_verification")["removed"] == 0
    assert folder.run("resize") is None


def test_in_place_an_image_that_came_again_and_is_in_a_part_is_resized_for_good(folder):
    encoded = encode(picture(7, (640, 320)), folder.settings.images)
    row = Row("a-0", "s", "http://a-0", ONE.server_name, ONE, known=Known(None, None, "before"))
    writer = PartWriter(ONE, PartNames(5, 0))
    writer.add_image(row, Fetched(b"", 200, "a-0", "image/jpeg", None, None, 0.1), encoded)
    writer.commit(folder.paths.batch_images(ONE), lambda: None)
    folder.set(resize_in_place=True)
    folder.run("resize")
    assert sizes(folder.paths.root) == SMALL
    folder.consolidate(ONE)
    assert sizes(folder.paths.root) == SMALL


def test_in_place_originals_are_kept(tmp_path):
    folder = ImagesFolder(tmp_path, {"images": {"keep_original": True}})
    bodies = [picture(1, (400, 200)), picture(2, (50, 80))]
    folder.add(ONE, bodies)
    folder.set(new_resize_size=100, resize_in_place=True)
    folder.run("resize")
    with Dataset(folder.paths.root) as dataset:
        assert [dataset.original(n) for n in ("a-0", "a-1")] == bodies
        assert dataset.image("a-0").size == (100, 50)


def test_an_image_that_cannot_be_decoded_is_told_and_the_others_are_resized(folder):
    row = folder.images(ONE).row(0, named=True)
    shard = folder.paths.batch_images(ONE) / row["file"]
    with Dataset(folder.paths.root) as dataset:
        body = dataset.bytes(row["uuid"])
    stored = shard.read_bytes()
    shard.write_bytes(stored.replace(body, b"\0" * len(body)))
    with pytest.raises(ToolError, match=r"failed for 1 of 2 .* 1 image cannot be resized \(a-0: "):
        folder.run("resize")
    assert sizes(folder.paths.tools / "resize") == {k: v for k, v in SMALL.items() if k != "a-0"}
    folder.run("image_verification")
    assert folder.run("resize")["images"] == 2


def test_bytes_of_strangers_are_decoded_outside_of_the_rank_and_may_crash(
    folder, deadly, monkeypatch
):
    def decodes_in_the_rank(body, wanted):
        raise AssertionError

    monkeypatch.setattr(resize, "encode", decodes_in_the_rank)
    deadly[picture(2, (50, 80))] = signal.SIGSEGV
    with pytest.raises(ToolError, match=r"1 image cannot be resized \(a-1: its decoder died"):
        folder.run("resize")
    assert sizes(folder.paths.tools / "resize") == {k: v for k, v in SMALL.items() if k != "a-1"}


def test_bytes_that_our_encoder_made_need_no_process(tmp_path, monkeypatch):
    folder = ImagesFolder(tmp_path, {"downloader_parameters": {"image_size": 200}})
    folder.add(ONE, [picture(1, (400, 300)), picture(2, (300, 400))])
    folder.set(new_resize_size=100)
    monkeypatch.setattr(Codec, "encode_here", None)
    assert folder.run("resize")["images"] == 2
    assert sizes(folder.paths.tools / "resize") == {"a-0": (100, 75), "a-1": (75, 100)}


def test_what_is_made_when_the_job_is_asked_to_end_is_not_made_again(folder, monkeypatch):
    monkeypatch.setattr(module, "WATCH_S", 0.01)
    numbers, some_are_made, told = itertools.count(), threading.Event(), threading.Event()

    class CodecUntilTold(Codec):
        def encode_here(self, body):
            if next(numbers) == 5:
                some_are_made.set()
                assert told.wait(10)
            return super().encode_here(body)

    def stop_requested():
        if some_are_made.is_set():
            told.set()
        return told.is_set()

    monkeypatch.setattr(resize, "Codec", CodecUntilTold)
    folder.add(ONE, [picture(n, (2000, 1500)) for n in range(10, 30)], wave=1)
    result = folder.run("resize", Job(stop_requested=stop_requested))
    assert result["stopped"] == "a later run asked for it"
    assert result["left"] > 0
    made = folder.paths.tools / "resize" / "images" / ONE.folder
    shards = {path: path.stat().st_ino for path in made.glob("*.h5")}
    assert folder.run("resize")["left"] == 0
    assert {path: path.stat().st_ino for path in shards} == shards
    assert len(sizes(folder.paths.tools / "resize")) == 24


def test_formats_and_quality_are_those_of_the_download(tmp_path):
    folder = ImagesFolder(tmp_path, {"images": {"format": "webp"}})
    buffer = io.BytesIO()
    Image.new("RGBA", (300, 100), (10, 200, 30, 100)).save(buffer, "PNG")
    folder.add(ONE, [buffer.getvalue()])
    folder.set(new_resize_size=60)
    folder.run("resize")
    with Dataset(folder.paths.tools / "resize") as dataset:
        assert dataset.image(0).size == (60, 20)
        assert dataset.bytes(0)[8:12] == b"WEBP"
