"""Every stored image names its makers, and every dataset its images."""

from pathlib import Path

import polars as pl
import pytest

from distributed_downloader import tables
from distributed_downloader.accounts.credit import write_credits
from distributed_downloader.durable import write_parquet
from distributed_downloader.paths import Batch
from distributed_downloader.records import ErrorClass
from tests.unit.dataset_folder import DatasetFolder

ONE, TWO = Batch("a.org", 0), Batch("b.org:81", 0)
SAID = {  # of uuid-1 to uuid-4
    "license": ["CC BY 4.0", None, "http://creativecommons.org/licenses/by/4.0/", "ask"],
    "creator": ["Ann", None, "Bo", "Cy"],
    "rightsHolder": ["The Museum", None, "Bo", None],
    "references": ["http://a.org/page/1", None, None, None],
    "datasetKey": ["d-1", None, "d-1", "d-2"],
}


@pytest.fixture
def folder(tmp_path: Path) -> DatasetFolder:
    """Three images in two batches, and one row without."""
    folder = DatasetFolder(tmp_path / "out")
    folder.add(ONE, ["ok", ErrorClass.NOT_FOUND, "ok"])
    folder.add(TWO, ["ok"])
    folder.finish()
    for batch, rows in ((ONE, slice(0, 3)), (TWO, slice(3, 4))):
        file = folder.paths.batch_urls(batch)
        said = {name: pl.Series(values[rows], dtype=pl.String) for name, values in SAID.items()}
        table = pl.read_parquet(file, hive_partitioning=False).with_columns(**said)
        write_parquet(file, table.with_columns(identifier="http://x/" + pl.col("uuid")))
    return folder


def test_each_image_names_whom_it_is_owed_to(folder: DatasetFolder) -> None:
    write_credits(folder.settings())
    table = pl.read_parquet(folder.paths.credits)
    assert table.schema == tables.CREDITS
    assert table.sort("uuid").rows() == [
        (
            *("uuid-1", "Ann", "The Museum", None, "CC BY 4.0", "CC-BY-4.0"),
            *("http://x/uuid-1", "http://a.org/page/1", "d-1", "a.org", 0),
        ),
        (
            *("uuid-3", "Bo", "Bo", None, SAID["license"][2], "CC-BY-4.0"),
            *("http://x/uuid-3", None, "d-1", "a.org", 0),
        ),
        (
            *("uuid-4", "Cy", None, None, "ask", "unknown"),
            *("http://x/uuid-4", None, "d-2", "b.org:81", 0),
        ),
    ]
    assert pl.read_csv(folder.paths.credits_csv, schema=tables.CREDITS).equals(table)


def test_each_dataset_has_its_count(folder: DatasetFolder) -> None:
    write_credits(folder.settings())
    table = pl.read_csv(folder.paths.credited_datasets)
    assert table.columns == tables.CREDITED_DATASETS.names()
    assert table.rows() == [("d-1", 2, "CC-BY-4.0"), ("d-2", 1, "unknown")]


def test_the_config_may_name_the_columns(folder: DatasetFolder) -> None:
    write_credits(folder.settings(columns={"creator": "rightsHolder", "source": "references"}))
    table = pl.read_parquet(folder.paths.credits).sort("uuid")
    assert table["creator"].to_list() == ["The Museum", "Bo", None]
    assert table["reference"].to_list()[0] == "http://a.org/page/1"


def test_a_dataset_without_images_owes_nobody(tmp_path: Path) -> None:
    folder = DatasetFolder(tmp_path / "out").finish()
    write_credits(folder.settings())
    assert pl.read_parquet(folder.paths.credits).is_empty()
    assert pl.read_csv(folder.paths.credited_datasets).is_empty()


def test_no_text_of_strangers_is_a_formula_in_a_spreadsheet(folder: DatasetFolder) -> None:
    file = folder.paths.batch_urls(TWO)
    table = pl.read_parquet(file, hive_partitioning=False)
    evil = {"creator": '=HYPERLINK("http://x","a\nb")', "license": "@ask", "datasetKey": "+1+1"}
    write_parquet(file, table.with_columns(**{name: pl.lit(cell) for name, cell in evil.items()}))
    write_credits(folder.settings())
    credits = pl.read_csv(folder.paths.credits_csv, schema=tables.CREDITS).filter(uuid="uuid-4")
    assert credits["creator"].to_list() == ["'" + evil["creator"]]
    assert credits["license"].to_list() == ["'@ask"]
    assert "'+1+1" in pl.read_csv(folder.paths.credited_datasets)["dataset_key"]
    exact = pl.read_parquet(folder.paths.credits).filter(uuid="uuid-4")
    assert exact["creator"].to_list() == [evil["creator"]]
