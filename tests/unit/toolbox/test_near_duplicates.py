import io

import polars as pl
from PIL import Image

from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.fleet.photos import photo
from distributed_downloader.storage.removal import remove_images
from distributed_downloader.tools.restoring import restore
from tests.unit.images_folder import ONE, TWO, ImagesFolder
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


def jpeg(image, scale=1.0):
    out = io.BytesIO()
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size).save(out, "JPEG", quality=85)
    return out.getvalue()


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


def test_the_largest_of_a_group_is_its_main_and_stays_when_the_others_are_to_go(tmp_path):
    folder = ImagesFolder(tmp_path)
    folder.add(ONE, [jpeg(picture("a"), 0.5), jpeg(picture("b")), jpeg(picture("a"))])
    folder.add(TWO, [jpeg(picture("a")), jpeg(picture("c"))])
    assert folder.run("near_duplicates")["removed"] == 0
    tool = folder.paths.tools / "near_duplicates"
    looked = (tool / "table" / ONE.folder / "rows.parquet").stat().st_ino

    folder.set(near_remove=True)
    result = folder.run("near_duplicates")
    assert (result["partitions"], result["removed"]) == (0, 2)  # no image is looked at again
    assert folder.uuids() == ["a-1", "a-2", "b-1"]
    groups = pl.read_parquet(tool / "groups.parquet")
    assert set(groups.select("uuid_main", "uuid", "removed").iter_rows()) == {
        ("a-2", "a-2", False),
        ("a-2", "a-0", True),
        ("a-2", "b-0", True),
    }
    [removal] = verify_dataset(folder.settings)["removals"]
    assert removal == {
        "tool": "near_duplicates",
        "reason": "looks like another image",
        "refetch": False,
        "rows": 2,
    }
    assert folder.run("near_duplicates") is None
    assert (tool / "table" / ONE.folder / "rows.parquet").stat().st_ino == looked

    folder.add(ONE, [jpeg(picture("c"), 2.0)], wave=1)  # what was removed stays listed
    assert folder.run("near_duplicates")["removed"] == 1
    assert folder.uuids() == ["a-1", "a-2", "a-3"]
    groups = pl.read_parquet(tool / "groups.parquet")
    assert set(groups.filter("removed").select("uuid_main", "uuid").iter_rows()) == {
        ("a-2", "a-0"),
        ("a-2", "b-0"),
        ("a-3", "b-1"),
    }

    assert restore(folder.settings, "near_duplicates", allowed=lambda: None).images == 3
    folder.set(near_remove=False)
    assert folder.run("near_duplicates")["removed"] == 0
    assert len(folder.uuids()) == 6
    groups = pl.read_parquet(tool / "groups.parquet")
    assert (len(groups), groups["removed"].any()) == (5, False)


def test_what_was_restored_is_removed_again_as_restore_says(tmp_path):
    folder = ImagesFolder(tmp_path)
    folder.add(ONE, [jpeg(picture("a")), jpeg(picture("a"), 0.5), jpeg(picture("b"))])
    folder.set(near_remove=True)
    assert folder.run("near_duplicates")["removed"] == 1
    assert restore(folder.settings, "near_duplicates", allowed=lambda: None).images == 1
    assert folder.run("near_duplicates")["removed"] == 1
    assert folder.uuids() == ["a-0", "a-2"]


def test_an_image_whose_likeness_has_left_by_another_tool_stays(tmp_path):
    """What was removed stands for nobody."""
    folder = ImagesFolder(tmp_path)
    folder.add(ONE, [jpeg(picture("a")), jpeg(picture("a"), 0.5)])
    folder.set(near_remove=True)
    folder.run("near_duplicates")
    which = pl.DataFrame({"uuid": ["a-0"], "tool": ["t"], "reason": ["r"], "refetch": [False]})
    remove_images(ONE, folder.paths, which, allowed=allowed)
    folder.add(ONE, [jpeg(picture("a"), 0.75)], wave=1)
    folder.run("near_duplicates")
    assert folder.uuids() == ["a-2"]
