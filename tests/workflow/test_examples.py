"""Each example plans a run with its own kind of list, and cuts it as it says."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml

from distributed_downloader.configuration.config import resolve_config, settings_of
from distributed_downloader.lists.partition import partition_urls
from tests.workflow.conftest import CHECKOUT, run_snakemake

EXAMPLES = CHECKOUT / "config" / "examples"


def archive(path: Path) -> None:
    media = "gbifID\ttype\tidentifier\tlicense\n"
    licences = ("http://creativecommons.org/licenses/by-nc/4.0/", "CC0", "All rights reserved")
    media += "".join(
        f"{n}\tStillImage\thttp://a.org/{n}\t{said}\n" for n, said in enumerate(licences)
    )
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("multimedia.txt", media)
        file.writestr("occurrence.txt", "gbifID\tkingdom\n0\tPlantae\n1\tFungi\n2\tPlantae\n")


def parquet(path: Path) -> None:
    path.parent.mkdir()
    pl.DataFrame(
        {
            "URL": ["http://a.org/1", "http://b.org/2", "http://c.org/3"],
            "TEXT": ["a cat", None, "a dog"],
            "WIDTH": [300, 200, None],
            "HEIGHT": [256, 900, 900],
            "hash": [1, 2, 3],
        }
    ).write_parquet(path)


def captions(path: Path) -> None:
    path.write_text('caption\turl\na "big" cat\thttp://a.org/1\na dog\thttp://b.org/2\n')


CASES: list[tuple[str, str, Callable[[Path], None], list[tuple[str, str | None]], dict[str, int]]]
CASES = [
    (
        "gbif-archive.yaml",
        "0012345-240506114902167.zip",
        archive,
        [("http://a.org/0", None)],
        {"row_denied": 1, "license_denied": 1},
    ),
    (
        "laion-parquet.yaml",
        "laion/x.parquet",
        parquet,
        [("http://a.org/1", "a cat")],
        {"row_denied": 2},
    ),
    (
        "caption-tsv.yaml",
        "captions.tsv",
        captions,
        [("http://a.org/1", 'a "big" cat'), ("http://b.org/2", "a dog")],
        {},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[name for name, *_ in CASES])
def test_an_example_plans_and_cuts_its_list(tmp_path, monkeypatch, case):
    name, input_name, make, fetched, rejected = case
    make(tmp_path / input_name)
    words = ["-n", "--profile", str(CHECKOUT / "profiles/local"), "--snakefile"]
    words += [str(CHECKOUT / "workflow/Snakefile"), "--configfile", str(EXAMPLES / name)]
    planned = run_snakemake(*words, cwd=tmp_path)
    assert planned.returncode == 0, planned.stdout
    assert "partition_urls" in planned.stdout

    monkeypatch.chdir(tmp_path)
    settings = settings_of(resolve_config(yaml.safe_load((EXAMPLES / name).read_text())))
    counts = partition_urls(settings)
    tables = [
        pl.read_parquet(file, hive_partitioning=False)
        for file in sorted(settings.paths.urls.glob("*/*/urls.parquet"))
    ]
    rows = [row for table in tables for row in table.select("identifier", "title").rows()]
    assert rows == fetched
    assert counts.rejections == rejected


def test_every_example_is_tried():
    assert {path.name for path in EXAMPLES.iterdir()} == {name for name, *_ in CASES}
