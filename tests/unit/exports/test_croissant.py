import json

import mlcroissant
import polars as pl
import pytest

from distributed_downloader.exports.croissant import MEANINGS, About, croissant
from tests.unit.exports.image_batch import store

# What mlcroissant calls is deprecated in rdflib and pandas.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ABOUT = About("birds", "Photos of birds.", "https://example.org/birds", ["CC0"], 8, "2026-01-31")
TABLES = "images/server_name=*/partition_id=*/successes.parquet"
SHARDS = "images/server_name=*/partition_id=*/images-*.h5"


@pytest.fixture
def folder(tmp_path):
    """An output folder with images, described."""
    store(tmp_path, range(8))
    (tmp_path / "croissant.json").write_text(json.dumps(croissant(ABOUT, TABLES, SHARDS)))
    return tmp_path


def test_mlcroissant_validates_it_without_a_word(folder, caplog):
    dataset = mlcroissant.Dataset(folder / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert (set(issues.errors), set(issues.warnings)) == (set(), set())
    assert caplog.messages == []
    told = dataset.metadata.to_json()
    assert (told["name"], told["license"], told["conformsTo"]) == (
        *("birds", "CC0"),
        "http://mlcommons.org/croissant/1.0",
    )


def test_mlcroissant_reads_the_records(folder):
    records = list(mlcroissant.Dataset(folder / "croissant.json").records("images"))
    table = pl.read_parquet(next(folder.glob("images/*/*/successes.parquet")))
    assert {record["images/uuid"].decode() for record in records} == set(table["uuid"])
    assert records[0].keys() == {f"images/{name}" for name in MEANINGS}
