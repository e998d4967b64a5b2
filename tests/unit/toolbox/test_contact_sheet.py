import io

from PIL import Image

from distributed_downloader.exports.contact_sheet import COLUMNS, GAP, LINE, SIDE
from distributed_downloader.paths import Batch
from tests.unit.exports.image_batch import store
from tests.unit.storage_folder import BATCH
from tests.unit.toolbox.run_tool import OneTool

OTHER = Batch("b.example.org", 0)
MORE = Batch(BATCH.server_name, 4)


def sheets(tool):
    files = (tool.folder / "sheets").glob("*.jpg")
    return {file.stem: Image.open(io.BytesIO(file.read_bytes())) for file in files}


def test_each_server_has_a_sheet_over_all_its_partitions(tmp_path):
    store(tmp_path, range(6))
    store(tmp_path, range(6, 12), batch=MORE)
    store(tmp_path, range(12, 16), batch=OTHER)
    tool = OneTool(tmp_path, "contact_sheet", sheet_images=10)
    assert tool.run()["images"] == 14
    found = sheets(tool)
    assert found.keys() == {"images.example.org~3A8080", "b.example.org"}
    assert found["b.example.org"].height == LINE + (SIDE + GAP) + GAP
    both = found["images.example.org~3A8080"]
    assert both.size == (COLUMNS * (SIDE + GAP) + GAP, LINE + 2 * (SIDE + GAP) + GAP)
    assert not tool.is_due()


def test_the_sample_is_the_same_every_time_and_shows_no_image_twice(tmp_path):
    store(tmp_path, range(8))
    store(tmp_path, range(8, 10), uuid="again")
    tool = OneTool(tmp_path, "contact_sheet", sheet_images=5)
    tool.run()
    (first,) = sheets(tool).values()
    again = OneTool(tmp_path, "contact_sheet", sheet_images=5)
    assert not again.is_due()
    assert again.pick() == 5
    fewer = OneTool(tmp_path, "contact_sheet", sheet_images=3)
    fewer.run()
    (second,) = sheets(fewer).values()
    assert first.width > second.width


def test_a_host_of_any_length_has_a_sheet(tmp_path):
    long = ".".join(["a" * 60] * 4)[:225] + ".test"
    store(tmp_path, range(4), batch=Batch(long, 0))
    store(tmp_path, range(4, 8), batch=OTHER)
    tool = OneTool(tmp_path, "contact_sheet")
    assert tool.run()["images"] == 8
    assert len(sheets(tool)) == 2
