import io

import polars as pl
from PIL import Image

from distributed_downloader.fleet.photos import photo
from distributed_downloader.storage.removal import remove_images
from tests.unit.storage_folder import BATCH, Folder, allowed, encoded, fetched, row
from tests.unit.toolbox.run_tool import OneTool


def store(root, pictures):
    """One partition with these images, in this order."""
    folder = Folder(root)
    writer = folder.writer()
    for number, image in enumerate(pictures):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=85)
        writer.add_image(row(number), fetched(number), encoded(out.getvalue()))
    writer.commit(folder.images, allowed)


def picture(name):
    return Image.open(io.BytesIO(photo(name, "small"))).convert("RGB")


def groups(tool):
    table = pl.read_parquet(tool.folder / "groups.parquet")
    return set(table.select("uuid_main", "uuid").iter_rows())


def test_copies_are_grouped_every_image_has_a_hash_and_none_is_removed(tmp_path):
    one, other = picture("a"), picture("b")
    store(tmp_path, [one, other, one.resize((one.width // 2, one.height // 2))])
    tool = OneTool(tmp_path, "near_duplicates")
    assert tool.run()["images"] == 3
    assert groups(tool) == {("row-0", "row-0"), ("row-0", "row-2")}
    hashes = pl.read_parquet(tool.folder / "table" / BATCH.folder / "rows.parquet")
    assert hashes.columns == ["uuid", "phash", "contrast"]
    assert len(hashes) == 3
    assert not list(tmp_path.glob("images/*/*/removed.parquet"))
    assert not tool.is_due()


def test_another_distance_groups_anew_and_hashes_nothing(tmp_path):
    one = picture("a")
    store(tmp_path, [one, one.resize((one.width // 2, one.height // 2)), picture("b")])
    OneTool(tmp_path, "near_duplicates", near_distance=6).run()
    strict = OneTool(tmp_path, "near_duplicates", near_distance=0)
    assert strict.is_due()
    assert strict.run()["images"] == 0
    table = pl.read_parquet(strict.folder / "groups.parquet")
    assert set(table["distance"]) <= {0}


def test_images_that_left_leave_the_groups(tmp_path):
    one = picture("a")
    store(tmp_path, [one, one])
    tool = OneTool(tmp_path, "near_duplicates")
    tool.run()
    assert len(groups(tool)) == 2
    which = pl.DataFrame({"uuid": ["row-1"], "tool": ["t"], "reason": ["r"], "refetch": [False]})
    remove_images(BATCH, Folder(tmp_path).paths, which, allowed=allowed)
    tool.run()
    assert groups(tool) == set()
