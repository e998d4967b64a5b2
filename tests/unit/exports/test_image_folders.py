import json

import datasets
import fsspec
import pytest

from distributed_downloader.exports.blocks import sizes_of
from distributed_downloader.exports.image_folders import write_folder
from distributed_downloader.exports.records import with_json
from distributed_downloader.exports.targets import Target
from tests.unit.exports.image_batch import partition, store


def export(root, target, name="museum/00000"):
    images = partition(root)
    return write_folder(
        target, name, images.blocks(sizes_of(images.folder, images.rows), with_json, 4_000)
    )


@pytest.fixture(params=["local", "memory"])
def target(request, tmp_path):
    fsspec.filesystem("memory").store.clear()
    return Target("memory://out" if request.param == "memory" else tmp_path / "out")


def files_of(target):
    system, root = fsspec.core.url_to_fs(target.address)
    return {path.removeprefix(f"{root}/"): system.cat_file(path) for path in system.find(root)}


def test_every_image_is_a_file_with_a_line_of_metadata(tmp_path, target):
    stored = store(tmp_path, range(8))
    assert export(tmp_path, target) == 8
    files = files_of(target)
    lines = files.pop("museum/00000/metadata.jsonl").splitlines()
    told = {line["uuid"]: line["file_name"] for line in map(json.loads, lines)}
    assert {uuid: files[f"museum/00000/{name}"] for uuid, name in told.items()} == stored
    assert len(files) == 8
    assert {name.rpartition(".")[2] for name in files} == {"jpg", "png", "webp"}


def test_a_folder_takes_the_place_of_the_old_one(tmp_path, target):
    store(tmp_path, range(4))
    export(tmp_path, target)
    target.write({"museum/00000/old.jpg": b"of a row that has gone"})
    store(tmp_path, range(4, 8))
    export(tmp_path, target)
    assert len(files_of(target)) == 9
    assert "museum/00000/old.jpg" not in files_of(target)


def test_a_cut_leaves_the_old_folder_alone(tmp_path):
    store(tmp_path, range(4))
    target = Target(tmp_path / "out")
    export(tmp_path, target)
    before = files_of(target)

    def broken():
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        write_folder(target, "museum/00000", broken())
    assert files_of(target) == before


def test_hugging_face_reads_it_as_an_image_folder(tmp_path):
    stored = store(tmp_path, range(8))
    export(tmp_path, Target(tmp_path / "out"))
    table = datasets.load_dataset(
        "imagefolder",
        data_dir=str(tmp_path / "out"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert set(table["uuid"]) == stored.keys()
    assert table[0]["image"].size == (32, 24)
