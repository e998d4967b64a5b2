"""Which row is fetched, under which uuid, in which batch."""

import json
from pathlib import Path
from uuid import UUID, uuid5

import polars as pl
import pytest

from distributed_downloader import tables
from distributed_downloader.lists import batching
from distributed_downloader.lists.partition import partition_urls
from distributed_downloader.lists.uuids import NAMESPACE
from distributed_downloader.paths import Batch
from tests.unit.conftest import make_settings
from tests.unit.lists.partitioned_lists import Rows, batches_of, partitioned, urls


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
