"""Whole or nothing, every row somewhere, and the same list always gives the same batches."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distributed_downloader import tables
from distributed_downloader.errors import FolderError, InputError, LedgerError
from distributed_downloader.lists import batching, inputs
from distributed_downloader.lists import tables as lists_tables
from distributed_downloader.lists.intake import Counts, _check
from distributed_downloader.lists.partition import check_folder, partition_urls
from distributed_downloader.lists.uuids import NAMESPACE
from distributed_downloader.paths import Batch
from distributed_downloader.settings import Settings
from tests.unit.conftest import make_settings

SAMPLE = Path(__file__).parents[2] / "data" / "gbif-multimedia-sample.txt"
SCRIPTS = Path(__file__).parents[3] / "scripts"

Rows = list[dict[str, Any]]


def partitioned(folder: Path, rows: Rows, **config: Any) -> tuple[Settings, Counts]:
    """These rows partitioned into `folder/out`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = make_settings(folder, path_to_input=str(path), **config)
    return settings, partition_urls(settings)


def batches_of(settings: Settings) -> dict[Batch, pl.DataFrame]:
    files = sorted(settings.paths.urls.glob("*/*/urls.parquet"))
    return {
        Batch.from_folder(file.parent): pl.read_parquet(file, hive_partitioning=False)
        for file in files
    }


def tree_of(folder: Path) -> dict[str, bytes]:
    """Everything below, byte by byte, but the times in source.json."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "source.json"
    }


def urls(*names: str, **more: str) -> Rows:
    return [{"identifier": f"http://{name}", **more} for name in names]


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


def test_uuids_come_from_source_url_and_ordinal(tmp_path: Path) -> None:
    rows: Rows = [
        {"source_id": "s", "identifier": "http://a.org/x"},
        {"source_id": "s", "identifier": "http://a.org/x"},
        {"source_id": None, "identifier": "http://a.org/y"},
        {"source_id": "s", "identifier": ""},
        {"source_id": "s", "identifier": ""},
    ]
    settings, _ = partitioned(tmp_path, rows)

    def name(source: str, url: str, ordinal: int) -> str:
        return str(uuid5(NAMESPACE, f"{source}\x1f{url}\x1f{ordinal}"))

    (frame,) = batches_of(settings).values()
    duplicates = pl.read_parquet(settings.paths.duplicates)
    assert {*frame["uuid"], *duplicates["uuid"]} == {
        name("s", "http://a.org/x", 0),
        name("s", "http://a.org/x", 1),
        name("", "http://a.org/y", 0),
    }
    rejected = pl.read_parquet(settings.paths.rejected)["uuid"].to_list()
    assert rejected == [name("s", "", 0), name("s", "", 1)]


def test_given_uuids_stay_and_a_repeated_one_is_rejected(tmp_path: Path) -> None:
    rows = [
        {"uuid": "b", "identifier": "no url"},
        {"uuid": "a", "identifier": "http://a.org/1"},
        {"uuid": "a", "identifier": "HTTP://a.org/2"},
        {"uuid": "b", "identifier": "http://a.org/3"},
        {"uuid": None, "identifier": "http://a.org/4"},
    ]
    settings, counts = partitioned(tmp_path, rows)
    (frame,) = batches_of(settings).values()
    assert frame["uuid"].to_list()[:2] == ["a", "b"]
    assert UUID(frame["uuid"][2]).version == 5
    rejected = pl.read_parquet(settings.paths.rejected)
    assert rejected.select("uuid", "identifier", "reason").rows() == [
        ("b", "no url", "not_a_url"),
        ("a", "HTTP://a.org/2", "uuid_repeated"),
    ]
    assert counts.rejections == {"not_a_url": 1, "uuid_repeated": 1}


def test_equal_urls_are_fetched_once_for_the_smallest(tmp_path: Path) -> None:
    rows = [
        {"uuid": "5", "source_id": None, "identifier": "http://a.org/x"},
        {"uuid": "4", "source_id": "2", "identifier": "http://a.org/x"},
        {"uuid": "3", "source_id": "1", "identifier": "http://A.org/x#top"},
        {"uuid": "2", "source_id": "1", "identifier": "http://a.org:80/x"},
        {"uuid": "1", "source_id": "9", "identifier": "https://a.org/x"},
    ]
    rows = [{**row, "note": note} for row, note in zip(rows, "edcba", strict=True)]
    settings, counts = partitioned(tmp_path, rows)
    (frame,) = batches_of(settings).values()
    assert frame["uuid"].to_list() == ["2", "1"]
    duplicates = pl.read_parquet(settings.paths.duplicates)
    assert dict(list(duplicates.schema.items())[:3]) == dict(tables.DUPLICATES)
    assert duplicates.select("uuid", "uuid_main", "source_id", "identifier", "note").rows() == [
        ("5", "2", None, "http://a.org/x", "e"),
        ("4", "2", "2", "http://a.org/x", "d"),
        ("3", "2", "1", "http://A.org/x#top", "c"),
    ]
    assert (counts.rows, counts.fetchable, counts.duplicates) == (5, 2, 3)
    assert counts.repairs == {"lower_cased": 1, "fragment": 1, "default_port": 1}


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


def test_tiny_servers_share_batches_in_long_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MANY_SERVERS", 3)
    rows = urls(*(f"big.org/{n}" for n in range(50)), *(f"s{n}.tiny.org/x" for n in range(20)))
    path = tmp_path / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = make_settings(tmp_path, path_to_input=str(path))
    counts = partition_urls(settings, lambda server: server.partition(".")[2])
    batches = batches_of(settings)
    assert set(batches) == {Batch("big.org", 0), Batch(batching.small_name("tiny.org"), 0)}
    assert batches[Batch(batching.small_name("tiny.org"), 0)]["server"].n_unique() == 20
    assert counts.servers == 21


def test_a_server_whose_name_no_file_system_takes_shares_a_batch(tmp_path: Path) -> None:
    long = ".".join(["a" * 60] * 4) + ":65535"  # of 249 bytes: DNS takes it
    rows = [{"identifier": f"http://{host}/1.jpg"} for host in (long, "b.example.org")]
    settings, counts = partitioned(tmp_path, rows)
    assert (counts.fetchable, counts.servers) == (2, 2)
    batches = batches_of(settings)
    (mixed,) = (batch for batch in batches if batch.is_mixed)
    assert batches[mixed]["server"].to_list() == [long]
    assert all(len(part) < 255 for batch in batches for part in batch.folder.parts)


@pytest.mark.parametrize("uuid", ["x" * 201, "é" * 101, "a\nb", "a\0b", "\x7f"])
def test_a_name_that_would_cost_all_others_is_rejected(tmp_path: Path, uuid: str) -> None:
    rows = [{"uuid": each, "identifier": "http://a.org/1.jpg"} for each in (uuid, "x" * 200)]
    settings, counts = partitioned(tmp_path, rows)
    assert counts.rejections == {"bad_uuid": 1}
    assert pl.read_parquet(settings.paths.rejected)["uuid"].to_list() == [uuid]


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


def test_rows_that_a_source_does_not_want_are_accounted_for(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, path_to_input=str(SAMPLE), initializer_type="gbif")
    counts = partition_urls(settings)
    kinds = Counter(pl.read_parquet(settings.paths.rejected)["reason"])
    assert counts.rows == 1619 == counts.fetchable + counts.duplicates + counts.rejected
    assert counts.rejections == dict(kinds)


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


def test_a_whole_folder_is_left_alone(tmp_path: Path) -> None:
    settings, counts = partitioned(tmp_path, urls("a.org/1"))
    before = settings.paths.partitions.stat()
    assert partition_urls(settings) == counts
    after = settings.paths.partitions.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_orphan_of_another_stage_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "out" / ".tmp-0123-left.json"
    other.parent.mkdir()
    other.touch()
    partitioned(tmp_path, urls("a.org/1"))
    assert other.exists()


def test_a_list_that_is_touched_or_moved_goes_on(tmp_path: Path) -> None:
    settings, _ = partitioned(tmp_path, urls("a.org/1"))
    path = Path(settings.path_to_input)
    os.utime(path, (1, 1))
    check_folder(settings)
    moved = path.rename(tmp_path / "moved.jsonl")
    check_folder(settings)  # gone: the folder has all its rows
    check_folder(make_settings(tmp_path, path_to_input=str(moved)))


@pytest.mark.parametrize("same_size", [True, False])
def test_another_list_needs_the_table_of_batches(tmp_path: Path, same_size: bool) -> None:
    settings, _ = partitioned(tmp_path, urls("a.org/1"))
    path = Path(settings.path_to_input)
    path.write_text(path.read_text().replace("/1", "/2" if same_size else "/22"))
    os.utime(path, (1, 1))
    check_folder(settings)  # it may be gone on with
    settings.paths.partitions.unlink()
    with pytest.raises(FolderError, match=r"made from another list.*give another path_to_output"):
        check_folder(settings)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"downloader_parameters": {"batch_size": 7}}, "batch_size"),
        ({"downloader_parameters": {"image_size": 99}}, "image_size"),
        ({"images": {"format": "png"}}, "images.format"),
        ({"images": {"keep_original": True}}, "images.keep_original"),
        ({"columns": {"title": "other"}}, "columns.title"),
        ({"filters": {"servers": ["a.org"]}}, "filters.servers"),
        ({"initializer_type": "gbif"}, "initializer_type"),
    ],
)
def test_what_cannot_be_mixed_is_refused(tmp_path: Path, config: dict[str, Any], name: str) -> None:
    settings, _ = partitioned(tmp_path, urls("a.org/1"))
    changed = make_settings(tmp_path, path_to_input=settings.path_to_input, **config)
    with pytest.raises(FolderError, match=f"put {name} back, or give another path_to_output"):
        partition_urls(changed)


def test_a_folder_of_before_a_setting_was_made_with_its_default(tmp_path: Path) -> None:
    settings, counts = partitioned(tmp_path, urls("a.org/1"))
    source = json.loads(settings.paths.source.read_text())
    del source["settings"]["columns"]["hash"], source["settings"]["filters"]
    settings.paths.source.write_text(json.dumps(source))
    assert partition_urls(settings) == counts
    hashed = {"path_to_input": settings.path_to_input, "columns": {"hash": "md5"}}
    with pytest.raises(
        FolderError, match=r"made with columns.hash = '', not 'md5': put columns.hash"
    ):
        partition_urls(make_settings(tmp_path, **hashed))


def test_what_may_change_is_not_refused(tmp_path: Path) -> None:
    settings, counts = partitioned(tmp_path, urls("a.org/1"))
    changed = make_settings(
        tmp_path,
        path_to_input=settings.path_to_input,
        downloader_parameters={"workers_per_node": 3, "default_rate_limit": 1},
    )
    assert partition_urls(changed) == counts


def test_nothing_to_check_before_the_first_run(tmp_path: Path) -> None:
    check_folder(make_settings(tmp_path))
