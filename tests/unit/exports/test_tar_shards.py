import gc
import io
import json
import tarfile
import warnings

import webdataset
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.exports.records import with_json
from distributed_downloader.exports.shards import Notes, ShardFormat, write_shards
from distributed_downloader.exports.tar_shards import MAX_KEY, headers, key_of, write_tar
from distributed_downloader.exports.targets import Target
from tests.unit.exports.image_batch import partition, store

TAR = ShardFormat("tar", write_tar, with_json)


def export(root, most_bytes=1 << 30):
    target = Target(root / "tars")
    write_shards(TAR, target, Notes(root / "notes"), partition(root), most_bytes)
    return sorted((root / "tars").glob("*.tar"))


def read(files):
    """{key: sample} as the webdataset library reads shards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the files to the collector
        dataset = webdataset.WebDataset(list(map(str, files)), shardshuffle=False)
        samples = {sample["__key__"]: sample for sample in dataset}
        del dataset
        gc.collect()
    return samples


def test_webdataset_reads_every_image_with_its_row(tmp_path):
    stored = store(tmp_path, range(20))
    files = export(tmp_path, most_bytes=sum(map(len, stored.values())) // 3)
    assert len(files) > 2
    samples = read(files)
    assert samples.keys() == stored.keys()
    for uuid, sample in samples.items():
        told = json.loads(sample["json"])
        assert (told["uuid"], told["license"], told["width"]) == (uuid, "CC0", 4)
        assert told["fetched_at"].startswith("2023-11-14T")
        suffix = {b"\xff\xd8": "jpg", b"\x89P": "png", b"RI": "webp"}[stored[uuid][:2]]
        assert sample[suffix] == stored[uuid]


def test_tar_itself_finds_nothing_wrong(tmp_path):
    stored = store(tmp_path, range(10))
    (file,) = export(tmp_path)
    with tarfile.open(file, errorlevel=2) as tar:
        members = tar.getmembers()
    assert file.stat().st_size % 512 == 0
    assert len(members) == 2 * len(stored)
    assert {member.mode for member in members} == {0o644}


@given(st.text("abc.-/:%é", min_size=1, max_size=90), st.integers(0, 8**11 - 1))
def test_any_name_and_size_is_a_header_that_tarfile_reads(name, size):
    key = key_of(name)
    assert "." not in key
    assert len(key) <= MAX_KEY
    (header,) = headers([f"{key}.jpg"], [size])
    told = tarfile.TarInfo.frombuf(header, "ascii", "strict")
    assert (told.name, told.size) == (f"{key}.jpg", size)


def test_names_with_dots_and_slashes_stay_apart_in_webdataset(tmp_path):
    names = ["a.1", "a.2", "../a", "b/c", "x" * 200, "é"]
    for number, name in enumerate(names):
        store(tmp_path, range(2 * number, 2 * number + 2), uuid=name)
    samples = read(export(tmp_path))
    assert {json.loads(sample["json"])["uuid"] for sample in samples.values()} == set(names)


def test_an_image_larger_than_a_block_is_whole(tmp_path):
    stored = store(tmp_path, range(6))
    images = partition(tmp_path)
    target = Target(tmp_path / "tars")
    write_shards(
        ShardFormat("tar", write_tar, with_json, block_bytes=10),
        target,
        Notes(tmp_path / "n"),
        images,
        1,
    )
    files = sorted((tmp_path / "tars").glob("*.tar"))
    assert len(files) == 6
    assert len(read(files)) == len(stored)


def test_a_shard_is_the_same_bytes_every_time(tmp_path):
    store(tmp_path, range(4))
    (file,) = export(tmp_path)
    first = file.read_bytes()
    file.unlink()
    assert export(tmp_path)[0].read_bytes() == first
    assert io.BytesIO(first).read(262)[257:] == b"ustar"
