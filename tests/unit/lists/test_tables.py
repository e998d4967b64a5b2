"""What is written of each row, and what nowhere."""

from pathlib import Path

import polars as pl
import pytest

from distributed_downloader import tables
from distributed_downloader.lists.partition import partition_urls
from distributed_downloader.paths import Batch
from tests.unit.conftest import make_settings
from tests.unit.lists.partitioned_lists import batches_of, partitioned


def test_columns_of_a_batch(tmp_path: Path) -> None:
    row = {"id": 5, "url": "HTTP://A.org/x y", "licence": "cc", "extra": "007", "server": "s"}
    settings, _ = partitioned(tmp_path, [row])
    ((batch, frame),) = batches_of(settings).items()
    assert batch == Batch("a.org", 0)
    assert dict(list(frame.schema.items())[:7]) == dict(tables.URLS)
    assert frame.drop("uuid").to_dicts() == [
        {
            "source_id": "5",
            "identifier": "http://a.org/x%20y",
            "server": "a.org",
            "license": "cc",
            "source": None,
            "title": None,
            "extra": "007",
            "server_input": "s",
            "identifier_original": "HTTP://A.org/x y",
        }
    ]


NAMES_OF_OURS = [
    *("server", "server_name", "partition_id", "identifier_original", "reason"),
    *("row", "batch", "uuid_main", "expected_hash"),
]


@pytest.mark.parametrize("name", NAMES_OF_OURS)
def test_a_column_that_bears_a_name_of_ours_passes_through_all_tables(
    tmp_path: Path, name: str
) -> None:
    urls = ["http://a.org/x", "http://a.org/x", "http://a.org/y", "no url"]
    rows = [{"identifier": url, name: f"{at}"} for at, url in enumerate(urls)]
    settings, counts = partitioned(tmp_path, rows)
    assert (counts.fetchable, counts.duplicates, counts.rejected) == (2, 1, 1)
    paths = settings.paths
    found = [*batches_of(settings).values()]
    found += [pl.read_parquet(path) for path in (paths.duplicates, paths.rejected)]
    passed = sorted(cell for table in found for cell in table[f"{name}_input"])
    assert passed == ["0", "1", "2", "3"]


def test_passwords_are_written_nowhere(tmp_path: Path) -> None:
    urls = [
        "http://me:s3cret@a.org/1.jpg",
        "http:\\\\me:s3cret@a.org/2.jpg",
        "http:// me:s3cret@a.org/3.jpg",
        "ftp://me:s3cret@a.org/4.jpg",
        "http://a.org/5.jpg|http://me:s3cret@a.org/6.jpg",
        "http://s3cret@@@a.org:x/7.jpg",
    ]
    settings, counts = partitioned(tmp_path, [{"identifier": url} for url in urls])
    assert (counts.fetchable, counts.rejected) == (3, 3)
    tables = [pl.read_parquet(file) for file in settings.paths.urls.rglob("*.parquet")]
    assert "a.org" in str([table.rows() for table in tables])
    assert "s3cret" not in str([table.rows() for table in tables])


def test_files_of_different_columns_and_types_go_together(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text("url,n\nhttp://a.org/1,07\n")
    pl.DataFrame({"url": ["http://a.org/2"], "n": [7], "m": [True]}).write_parquet(
        folder / "b.parquet"
    )
    settings = make_settings(tmp_path, path_to_input=str(folder))
    partition_urls(settings)
    (frame,) = batches_of(settings).values()
    assert frame.select("n", "m").rows() == [("07", None), ("7", True)]
