"""Images of an earlier folder: what is missing or damaged there is told, and left to be fetched."""

import os
from dataclasses import replace

import polars as pl
import pytest

from distributed_downloader.durable import write_parquet
from distributed_downloader.lists.previous import bury_previous
from distributed_downloader.paths import Batch
from distributed_downloader.storage.previous import copy_images
from tests.unit.images_folder import ONE, TWO, ImagesFolder, picture

MIXED = Batch("_small-0a1b", 0)


def with_urls(folder):
    """The rows' URLs, as the images have them."""
    for batch in folder.rows:
        file = folder.paths.batch_urls(batch)
        rows = pl.read_parquet(file, hive_partitioning=False)
        write_parquet(file, rows.with_columns(identifier=pl.format("http://{}", pl.col("uuid"))))
    return folder


def earlier_and_now(tmp_path, one=ONE):
    """Two batches with their images, and a folder of the same rows without any."""
    earlier, now = ImagesFolder(tmp_path / "earlier"), ImagesFolder(tmp_path / "now")
    for batch, size in ((one, 4), (TWO, 2)):
        earlier.add(batch, [picture(number) for number in range(size)])
    now.rows = dict(earlier.rows)
    now._write_urls()
    return with_urls(earlier), with_urls(now)


def flip(file):
    body = bytearray(file.read_bytes())
    body[40] ^= 255
    file.write_bytes(body)


def cut(size):
    return lambda file: os.truncate(file, size)


DAMAGES = [
    ("images-0.h5", os.unlink),
    ("images-0.h5", cut(3000)),
    ("images-0.h5", cut(0)),
    ("successes.parquet", cut(500)),
    ("successes.parquet", cut(0)),
    ("successes.parquet", flip),
    ("successes.parquet", os.unlink),
]


@pytest.mark.parametrize("one", [ONE, MIXED], ids=["server", "mixed"])
@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_damaged_files_cost_their_own_images_and_are_told_once(tmp_path, caplog, one, name, damage):
    earlier, now = earlier_and_now(tmp_path, one)
    folder = earlier.paths.batch_images(one)
    damage(folder / name)
    assert copy_images(now.settings, earlier.paths, lambda: None) == 2
    assert sorted(now.images(TWO)["uuid"]) == earlier.rows[TWO]
    (told,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert str(folder / name) in told
    assert "fetched anew" in told


def test_one_damaged_image_costs_itself_alone(tmp_path, caplog):
    earlier, now = earlier_and_now(tmp_path)
    shard = earlier.paths.batch_images(ONE) / "images-0.h5"
    body = bytearray(shard.read_bytes())
    body[body.rindex(b"\xff\xd9")] ^= 255  # where the last JPEG ends
    shard.write_bytes(body)
    assert copy_images(now.settings, earlier.paths, lambda: None) == 5
    assert f"{shard} is missing or damaged: 1 image fetched anew" in caplog.text


def test_a_missing_table_of_errors_costs_no_image(tmp_path, caplog):
    earlier, now = earlier_and_now(tmp_path)
    (earlier.paths.batch_images(ONE) / "errors.parquet").unlink()
    assert copy_images(now.settings, earlier.paths, lambda: None) == 6
    assert not caplog.records


@pytest.mark.parametrize("damage", [os.unlink, flip])
def test_rows_of_a_batch_whose_list_is_lost_are_not_buried(tmp_path, caplog, damage):
    earlier, now = earlier_and_now(tmp_path)
    damage(earlier.paths.batch_urls(ONE))
    settings = replace(now.settings, previous_output=earlier.paths.root)
    assert bury_previous(settings) == 0  # the other batch's rows are in the list
    assert f"{earlier.paths.batch_urls(ONE)} is missing or damaged" in caplog.text
