import json

from tests.unit.exports.image_batch import store
from tests.unit.toolbox.run_tool import OneTool


def told(root):
    return json.loads((root / "croissant.json").read_text())


def test_the_dataset_is_described_with_its_licences_and_what_is_known_of_it(tmp_path):
    store(tmp_path, range(4))
    OneTool(tmp_path, "export_croissant", dataset_name="birds", dataset_description="Of Kea.").run()
    metadata = told(tmp_path)
    assert (metadata["name"], metadata["license"]) == ("birds", ["CC0"])
    assert metadata["description"] == "Of Kea. 4 images."
    assert metadata["datePublished"] == "2023-11-14"
    assert [files["@id"] for files in metadata["distribution"]] == ["tables", "shards"]


def test_parquet_shards_are_described_when_there_are_some(tmp_path):
    store(tmp_path, range(4))
    OneTool(tmp_path, "export_parquet").run()
    OneTool(tmp_path, "export_croissant").run()
    (parquet,) = [files for files in told(tmp_path)["distribution"] if files["@id"] == "parquet"]
    assert list(tmp_path.glob(parquet["includes"]))


def test_another_name_is_written_without_looking_at_the_images_again(tmp_path):
    store(tmp_path, range(4))
    OneTool(tmp_path, "export_croissant").run()
    renamed = OneTool(tmp_path, "export_croissant", dataset_name="kea")
    assert renamed.is_due()
    assert renamed.run()["images"] == 0
    assert told(tmp_path)["name"] == "kea"
