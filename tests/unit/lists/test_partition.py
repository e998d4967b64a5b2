"""Whole or nothing, every row somewhere, and the same list always gives the same batches."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distributed_downloader import tables
from distributed_downloader.errors import InputError, LedgerError
from distributed_downloader.lists import inputs
from distributed_downloader.lists import tables as lists_tables
from distributed_downloader.lists.intake import Counts, _check
from distributed_downloader.lists.partition import partition_urls
from distributed_downloader.paths import Batch
from tests.unit.conftest import make_settings
from tests.unit.lists.partitioned_lists import batches_of, partitioned, urls

SAMPLE = Path(__file__).parents[2] / "data" / "gbif-multimedia-sample.txt"
SCRIPTS = Path(__file__).parents[3] / "scripts"


def tree_of(folder: Path) -> dict[str, bytes]:
    """Everything below, byte by byte, but the times in source.json."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "source.json"
    }


def test_batches_are_named_counted_and_bounded(tmp_path: Path) -> None:
    rows = urls(*(f"a.org:8080/{n}" for n in range(5)), *(f"[::1]/{n}" for n in range(2)))
    settings, counts = partitioned(tmp_path, rows, downloader_parameters={"batch_size": 2})
    batches = batches_of(settings)
    assert (settings.paths.urls / "server_name=a.org%3A8080/partition_id=2/urls.parquet").exists()
    table = pl.read_parquet(settings.paths.partitions)
    assert table.schema == tables.PARTITIONS
    assert [(Batch(name, n), size) for name, n, size in table.iter_rows()] == [
        (batch, len(frame)) for batch, frame in sorted(batches.items())
    ]
    assert table["rows"].to_list() == [2, 2, 2, 1]
    assert (counts.fetchable, counts.servers, counts.batches) == (7, 2, 4)
    in_order = pl.concat(batches[Batch("a.org:8080", n)] for n in range(3))["identifier"]
    assert in_order.to_list() == [row["identifier"] for row in rows[:5]]


CELLS = st.sampled_from(
    [
        None,
        "",
        "n/a",
        "ftp://a.org/x",
        "http://a.org/1|http://a.org/2",
        "b.org\\1",
        "HTTP://B.org/1",
    ]
    + [f"http://{host}/{n}" for host in ("a.org", "b.org", "c.org:81") for n in range(3)]
)
UUIDS = st.sampled_from([None, "u1", "u2", "u3", "u4"])


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(UUIDS, st.sampled_from([None, "s", "t"]), CELLS), min_size=1))
def test_every_row_is_in_one_place(
    tmp_path: Path, cells: list[tuple[str | None, str | None, str | None]]
) -> None:
    shutil.rmtree(tmp_path / "h", ignore_errors=True)
    rows = [dict(zip(("uuid", "source_id", "identifier"), cell, strict=True)) for cell in cells]
    rows[0]["n"] = "0"  # so that no line is blank
    for number, row in enumerate(rows):
        row["n"] = str(number)
    settings, counts = partitioned(tmp_path / "h", rows, downloader_parameters={"batch_size": 2})
    batches = batches_of(settings)
    fetched = [row for frame in batches.values() for row in frame.iter_rows(named=True)]
    rejected = pl.read_parquet(settings.paths.rejected)
    duplicates = pl.read_parquet(settings.paths.duplicates)
    assert len(fetched) + rejected.height + duplicates.height == len(rows) == counts.rows
    names = [*(row["uuid"] for row in fetched), *duplicates["uuid"]]
    assert len(set(names)) == len(names)
    assert len({row["identifier"] for row in fetched}) == len(fetched)
    assert set(duplicates["uuid_main"]) <= {row["uuid"] for row in fetched}
    assert {row["n"] for row in fetched}.isdisjoint(rejected["n"])
    assert all(frame.height <= 2 for frame in batches.values())
    assert all(set(frame["server"]) == {batch.server_name} for batch, frame in batches.items())


def test_the_same_list_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": str(n % 90), "url": f"http://{n % 7}.org/{n % 100}"} for n in range(1000)]
    rows += [{"id": "1", "url": f"bad {n % 3}"} for n in range(20)]
    one, counts = partitioned(tmp_path / "one", rows, downloader_parameters={"batch_size": 9})
    monkeypatch.setattr(lists_tables, "RUN_BYTES", 1)
    monkeypatch.setattr(lists_tables, "_SLAB_ROWS", 30)
    monkeypatch.setattr(inputs.InputFile.pieces, "__defaults__", (37,))
    other, again = partitioned(tmp_path / "two", rows, downloader_parameters={"batch_size": 9})
    assert counts == again
    one_tree, other_tree = (
        {
            str(file.relative_to(each.paths.urls)): pl.read_parquet(
                file, hive_partitioning=False
            ).to_dicts()
            for file in each.paths.urls.rglob("*.parquet")
        }
        for each in (one, other)
    )
    assert one_tree == other_tree


def test_rows_that_a_source_does_not_want_are_accounted_for(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, path_to_input=str(SAMPLE), initializer_type="gbif")
    counts = partition_urls(settings)
    kinds = Counter(pl.read_parquet(settings.paths.rejected)["reason"])
    assert counts.rows == 1619 == counts.fetchable + counts.duplicates + counts.rejected
    assert counts.rejections == dict(kinds)


def test_a_list_with_nothing_to_fetch_is_partitioned(tmp_path: Path) -> None:
    settings, counts = partitioned(tmp_path, [{"identifier": "n/a"}])
    assert (counts.rows, counts.rejected, counts.batches) == (1, 1, 0)
    assert pl.read_parquet(settings.paths.partitions).schema == tables.PARTITIONS


@pytest.mark.parametrize("text", ["identifier,x\n", "identifier\n\n"])
def test_a_header_alone_is_refused_and_leaves_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "urls.txt").write_text(text)
    settings = make_settings(tmp_path)
    with pytest.raises(InputError, match="no rows"):
        partition_urls(settings)
    assert list(settings.paths.root.iterdir()) == []


def test_a_broken_row_far_down_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_bytes(b"url,t\n" + b"http://a/1,x\n" * 300_000 + b"\xff,\n")
    settings = make_settings(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        partition_urls(settings)
    assert list(settings.paths.root.iterdir()) == []


def test_counts_that_do_not_add_up_are_an_error() -> None:
    with pytest.raises(LedgerError, match="Of 3 input rows 2 were written"):
        _check(Counts(3, 1, 1, 0, 1, 1, {}, {}))


POINTS = [
    "staged",
    "placed",
    "rows_written",
    "source_written",
    "synced",
    "before_rename",
    "renamed",
]
RUN = (
    "import sys; from pathlib import Path\n"
    "from tests.unit.conftest import make_settings\n"
    "from distributed_downloader.lists.partition import partition_urls\n"
    "partition_urls(make_settings(Path(sys.argv[1]), path_to_input=sys.argv[2]))\n"
)


@pytest.mark.parametrize("old", [False, True], ids=["fresh", "over_a_folder_that_lost_a_table"])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_anywhere_leaves_nothing_half_written(tmp_path: Path, point: str, old: bool) -> None:
    settings = make_settings(tmp_path, path_to_input=str(SAMPLE))
    reference = make_settings(tmp_path / "reference", path_to_input=str(SAMPLE))
    partition_urls(reference)
    settings.paths.urls.mkdir(parents=True)  # as a workflow engine does for its outputs
    if old:
        partition_urls(settings)
        settings.paths.partitions.unlink()
    environment = {
        **os.environ,
        "DOWNLOADER_CRASH_AT": f"partition:{point}",
        "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{SCRIPTS.parent}",
    }
    killed = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), str(SAMPLE)], env=environment, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert settings.paths.partitions.exists() == (point == "renamed")
    partition_urls(settings)
    assert tree_of(settings.paths.urls) == tree_of(reference.paths.urls)
    assert [path.name for path in settings.paths.root.iterdir()] == ["urls"]


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_number_of_threads_changes_nothing(tmp_path: Path, threads: str) -> None:
    reference, _ = partitioned(
        tmp_path / "reference", urls(*(f"{n % 9}.org/{n % 70}" for n in range(900)))
    )
    table = tmp_path / "reference" / "list.jsonl"
    environment = {
        **os.environ,
        "POLARS_MAX_THREADS": threads,
        "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{SCRIPTS.parent}",
    }
    subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), str(table)], env=environment, check=True
    )
    settings = make_settings(tmp_path, path_to_input=str(table))
    assert tree_of(settings.paths.urls) == tree_of(reference.paths.urls)


def test_an_orphan_of_another_stage_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "out" / ".tmp-0123-left.json"
    other.parent.mkdir()
    other.touch()
    partitioned(tmp_path, urls("a.org/1"))
    assert other.exists()
