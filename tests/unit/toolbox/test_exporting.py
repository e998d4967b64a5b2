import io
import json
import shutil
import tarfile
from pathlib import Path

import fsspec
import polars as pl
import pytest
from PIL import Image

from distributed_downloader.errors import ConfigError, ToolError
from distributed_downloader.paths import Batch
from distributed_downloader.storage.removal import remove_images
from tests.unit.exports.image_batch import store
from tests.unit.storage_folder import BATCH, Folder, allowed
from tests.unit.toolbox.run_tool import OneTool

OTHER = Batch("b.example.org", 0)
EXPORTS = ("export_webdataset", "export_parquet", "export_files")


@pytest.fixture
def root(tmp_path):
    """Two partitions of four images."""
    store(tmp_path, range(4))
    store(tmp_path, range(4, 8), batch=OTHER)
    return tmp_path


def remove(root, *uuids):
    which = pl.DataFrame({"uuid": uuids}).with_columns(
        tool=pl.lit("t"), reason=pl.lit("r"), refetch=pl.lit(False)
    )
    for batch in (BATCH, OTHER):
        remove_images(batch, Folder(root, batch).paths, which, allowed=allowed)


def index(tool):
    return json.loads((tool.folder / "data" / "shards.json").read_text())


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_has_every_image_and_says_so(root, name):
    tool = OneTool(root, name)
    assert tool.run()["images"] == 8
    told = index(tool)
    assert (told["images"], told["shards"]) == (8, 2)
    assert all((tool.folder / "data" / file["name"]).exists() for file in told["files"])
    assert not tool.is_due()


@pytest.mark.parametrize("name", EXPORTS)
def test_only_the_partition_that_changed_is_exported_again(root, name):
    tool = OneTool(root, name)
    tool.run()
    remove(root, "row-1")
    result = tool.run()
    assert (result["partitions"], result["images"]) == (1, 3)
    assert index(tool)["images"] == 7


@pytest.mark.parametrize("name", EXPORTS)
def test_a_partition_that_lost_all_images_loses_its_files(root, name):
    tool = OneTool(root, name)
    tool.run()
    remove(root, *(f"row-{number}" for number in range(4)))
    tool.run()
    assert index(tool)["images"] == 4
    files = [path.name for path in (tool.folder / "data").rglob("*") if path.is_file()]
    assert not [name for name in files if "row-0" in name or BATCH.server_name[:6] in name]


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_goes_where_it_is_told(root, name):
    fsspec.filesystem("memory").store.clear()
    tool = OneTool(root, name, export_target="memory://bucket/birds/")
    assert tool.run()["images"] == 8
    with fsspec.open(f"memory://bucket/birds/{name}/shards.json") as file:
        assert json.load(file)["images"] == 8
    elsewhere = OneTool(root, name, export_target=str(root / "elsewhere"))
    assert elsewhere.run()["images"] == 8
    assert (root / "elsewhere" / name / "shards.json").exists()


@pytest.fixture
def photos(tmp_path):
    """Four images of 32 pixels, resized to 20 by the tool."""
    store(tmp_path, range(4))
    OneTool(tmp_path, "resize", new_resize_size=20).run()
    return tmp_path


@pytest.mark.parametrize("name", EXPORTS)
def test_what_the_tool_resize_made_is_exported_if_told_to(photos, name):
    tool = OneTool(photos, name)
    tool.run()
    stored = sides(tool)
    resized = OneTool(photos, name, export_resized=True)
    assert resized.is_due()
    assert resized.run()["images"] == 4
    assert (stored, sides(resized)) == ([32] * 4, [20] * 4)
    assert not resized.is_due()
    OneTool(photos, "resize", new_resize_size=10).run()
    assert resized.run()["partitions"] == 1
    assert sides(resized) == [10] * 4


def sides(tool):
    """The longest side of each image of an export."""
    bodies = []
    for file in (tool.folder / "data").rglob("*"):
        if file.suffix == ".parquet":
            bodies += pl.read_parquet(file)["image"].to_list()
        elif file.suffix == ".tar":
            with tarfile.open(file) as shard:
                bodies += [shard.extractfile(m).read() for m in shard if "json" not in m.name]
        elif file.suffix in (".jpg", ".png", ".webp"):
            bodies.append(file.read_bytes())
    return [max(Image.open(io.BytesIO(body)).size) for body in bodies]


def test_images_that_are_not_resized_are_told(photos):
    store(photos, range(4, 6))
    tool = OneTool(photos, "export_parquet", export_resized=True)
    with pytest.raises(ToolError, match="2 images of 6 are not resized"):
        tool.run()
    shutil.rmtree(photos / "tools" / "resize")
    with pytest.raises(ToolError, match="6 images of 6 are not resized"):
        tool.run()


@pytest.mark.parametrize("name", EXPORTS)
def test_where_there_is_no_image_none_must_be_resized(tmp_path, name):
    tool = OneTool(tmp_path, name, export_resized=True)
    assert tool.run()["images"] == 0


def test_an_address_that_nobody_knows_ends_the_filter(root):
    with pytest.raises(ConfigError, match="nowhere"):
        OneTool(root, "export_parquet", export_target="nowhere://x").pick()


def test_a_target_that_takes_nothing_is_one_sentence(root):
    (root / "file").write_text("no folder")
    with pytest.raises(ToolError, match=r"Cannot write .*file"):
        OneTool(root, "export_parquet", export_target=str(root / "file")).run()


def test_a_killed_export_keeps_its_finished_shards(root, monkeypatch):
    tool = OneTool(root, "export_webdataset", export_shard_bytes=1)
    whole, opened = Path.open, []

    def broken(path, *args, **options):
        if ".tar" in path.name:
            opened.append(path)
            if len(opened) == 3:
                raise RuntimeError("the process ends here")
        return whole(path, *args, **options)

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(ToolError, match="1 of 2 partitions"):
        tool.run()
    before = {path: path.stat().st_mtime_ns for path in (tool.folder / "data").glob("*.tar")}
    assert tool.run()["partitions"] == 1
    after = {path: path.stat().st_mtime_ns for path in (tool.folder / "data").glob("*.tar")}
    assert len(after) == 8
    assert {path: after[path] for path in before} == before
