import io

import datasets
import fsspec
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from distributed_downloader.exports.parquet_shards import write_parquet_shard
from distributed_downloader.exports.records import with_records
from distributed_downloader.exports.shards import Notes, ShardFormat, write_shards
from distributed_downloader.exports.targets import Target
from tests.unit.exports.image_batch import partition, store

PARQUET = ShardFormat("parquet", write_parquet_shard, with_records)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Two shards, and what was stored."""
    root = tmp_path_factory.mktemp("parquet")
    stored = store(root, range(20))
    half = sum(map(len, stored.values())) * 2 // 3
    small = ShardFormat("parquet", write_parquet_shard, with_records, block_bytes=half // 4)
    write_shards(small, Target(root / "out"), Notes(root / "notes"), partition(root), half)
    files = sorted((root / "out").glob("*.parquet"))
    assert len(files) == 2
    return stored, files


def test_polars_reads_the_images_and_their_rows(exported):
    stored, files = exported
    table = pl.read_parquet(files)
    assert dict(table.select("uuid", "image").iter_rows()) == stored
    assert table["license"].to_list() == ["CC0"] * 20
    assert table.select("height", "width", "original_height", "original_width").row(0) == (
        *(3, 4),
        *(30, 40),
    )
    assert table.schema["fetched_at"] == pl.Datetime("us", "UTC")


def test_hugging_face_reads_and_decodes_the_images(exported, tmp_path):
    stored, files = exported
    table = datasets.load_dataset(
        "parquet", data_files=list(map(str, files)), split="train", cache_dir=str(tmp_path)
    )
    assert dict(zip(table["uuid"], table["image"], strict=True)) == stored
    table = table.cast_column("image", datasets.Image())
    record = table[0]
    expected = Image.open(io.BytesIO(stored[record["uuid"]]))
    assert list(record["image"].get_flattened_data()) == list(expected.get_flattened_data())


def test_a_block_is_a_row_group_and_images_are_stored_plainly(exported):
    _, files = exported
    metadata = pq.read_metadata(files[0])
    assert metadata.num_row_groups > 2
    image = metadata.row_group(0).column(0)
    assert (image.path_in_schema, image.compression) == ("image", "UNCOMPRESSED")
    assert not image.is_stats_set
    assert "PLAIN" in image.encodings


def test_far_away_it_is_the_same_file(tmp_path):
    stored = store(tmp_path, range(4))
    fsspec.filesystem("memory").store.clear()
    target = Target("memory://bucket/out")
    write_shards(PARQUET, target, Notes(tmp_path / "notes"), partition(tmp_path), 1 << 30)
    (name,) = fsspec.filesystem("memory").find("bucket/out")
    with fsspec.open(f"memory://{name}") as file:
        table = pl.read_parquet(file)
    assert dict(table.select("uuid", "image").iter_rows()) == stored
