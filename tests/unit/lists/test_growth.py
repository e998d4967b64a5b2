"""A list that changes in its folder: every row in one place, and what was there stays."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distributed_downloader import tables
from distributed_downloader.accounts.sums import listed_batches
from distributed_downloader.errors import LedgerError
from distributed_downloader.lists import batching
from distributed_downloader.lists.generations import Generation, lost_rows, rows_by_batch
from distributed_downloader.lists.growth import grow_list, growth_is_due
from distributed_downloader.lists.partition import partition_urls
from distributed_downloader.paths import Batch
from distributed_downloader.settings import Settings
from tests.unit.conftest import make_settings

Rows = list[dict[str, Any]]

IDS = st.integers(0, 12)
ROWS = st.lists(
    st.builds(
        lambda uuid, page, host: {"uuid": f"u{uuid}", "identifier": f"http://{host}.org/{page}"},
        IDS,
        IDS,
        st.sampled_from(["a", "b", "c"]),
    ),
    min_size=1,
    max_size=25,
)
SAME: Rows = [{"uuid": "same", "identifier": "http://same.org/1"}]  # else it is another list


def write(settings: Settings, rows: Rows) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    Path(settings.path_to_input).write_text(text)


def begun(folder: Path, rows: Rows, batch_size: int = 4) -> Settings:
    settings = make_settings(
        folder,
        path_to_input=str(folder / "list.jsonl"),
        downloader_parameters={"batch_size": batch_size},
    )
    write(settings, rows)
    partition_urls(settings)
    return settings


def files(settings: Settings) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in settings.paths.urls.glob("*/*/urls.parquet")}


def live_rows(settings: Settings) -> list[tuple[str, str]]:
    """uuid and URL of the rows that are to be fetched or were."""
    current = Generation.of(settings.paths)
    found = []
    for batch in rows_by_batch(settings.paths):
        table = pl.read_parquet(settings.paths.batch_urls(batch), hive_partitioning=False)
        table = table.filter(~pl.col("uuid").is_in(current.gone_of(batch).implode()))
        found += list(table.select("uuid", "identifier").iter_rows())
    return found


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=ROWS, second=ROWS, third=ROWS)
def test_whatever_a_list_becomes_every_row_has_one_place(
    first: Rows, second: Rows, third: Rows
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = begun(Path(folder), SAME + first)
        for number, rows in enumerate((second, third), 1):
            before = files(settings)
            had = set(live_rows(settings))
            write(settings, rows + SAME)
            if growth_is_due(settings) != number:
                return  # by chance the same list
            generation, counts = grow_list(settings)
            assert generation.number == number
            live = live_rows(settings)
            assert len(live) == len({uuid for uuid, _ in live}) == len({url for _, url in live})
            assert len(live) == counts.fetchable == sum(rows_by_batch(settings.paths).values())
            assert counts.fetchable + counts.duplicates + counts.rejected == len(rows) + 1
            given = {(row["uuid"], row["identifier"]) for row in rows + SAME}
            assert set(live) <= given
            assert {url for _, url in live} >= {url for _, url in had & given}
            assert before.items() <= files(settings).items()
            buried = pl.read_parquet(generation.tombstones)
            assert buried.schema == tables.TOMBSTONES
            assert len(buried) + len(live) == generation.partitions()["rows"].sum()


def test_new_rows_make_new_batches_numbered_on(tmp_path: Path) -> None:
    rows = [{"identifier": f"http://a.org/{n}"} for n in range(10)]
    settings = begun(tmp_path, rows[:5])
    write(settings, rows[::-1])
    grow_list(settings)
    sizes = {batch.partition_id: n for batch, n in rows_by_batch(settings.paths).items()}
    assert sizes == {0: 4, 1: 1, 2: 4, 3: 1}


def test_a_row_that_has_its_place_stays_the_one_that_is_fetched(tmp_path: Path) -> None:
    settings = begun(tmp_path, [{"uuid": "m", "source_id": "2", "identifier": "http://a.org/1"}])
    write(
        settings,
        [
            {"uuid": "a", "source_id": "1", "identifier": "http://a.org/1"},
            {"uuid": "m", "source_id": "2", "identifier": "http://a.org/9"},
            {"uuid": "m", "source_id": "2", "identifier": "http://a.org/1"},
        ],
    )
    generation, counts = grow_list(settings)
    assert live_rows(settings) == [("m", "http://a.org/1")]
    assert (counts.fetchable, counts.duplicates, counts.rejected) == (1, 1, 1)
    assert pl.read_parquet(generation.duplicates)["uuid_main"].to_list() == ["m"]


def test_tiny_servers_go_on_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"identifier": f"http://{host}.org/{n}"} for host in "abc" for n in range(3)]
    settings = begun(tmp_path, rows[:1])
    monkeypatch.setattr(batching, "MANY_SERVERS", 1)
    write(settings, rows)
    grow_list(settings, lambda _: "one group")
    names = {batch.server_name for batch in rows_by_batch(settings.paths)}
    assert names == {"a.org", batching.small_name("one group")}
    assert rows_by_batch(settings.paths)[Batch("a.org", 1)] == 2


def test_the_first_table_of_batches_can_be_lost(tmp_path: Path) -> None:
    rows = [{"identifier": f"http://a.org/{n}"} for n in range(3)]
    settings = begun(tmp_path, rows[:2])
    write(settings, rows)
    _, counts = grow_list(settings)
    settings.paths.partitions.unlink()
    assert partition_urls(settings) == counts
    assert settings.paths.partitions.exists()
    assert growth_is_due(settings) == 1  # it was never settled


TABLES = ("partitions", "rejected", "duplicates", "tombstones")


@pytest.mark.parametrize("name", [*(f"{table}.parquet" for table in TABLES), "source.json"])
def test_a_generation_whose_table_is_damaged_is_made_again_as_it_was(
    tmp_path: Path, name: str
) -> None:
    rows = [{"identifier": f"http://a.org/{n}"} for n in range(9)]
    settings = begun(tmp_path, [*rows[:5], rows[0]])
    write(settings, [*rows[1:], rows[1], {"identifier": "ftp://a.org/1"}])
    generation, _ = grow_list(settings)
    before, live = files(settings), live_rows(settings)
    file = generation.folder / name
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0xFF
    file.write_bytes(data)

    with pytest.raises(LedgerError) as told:
        listed_batches(settings.paths)
        _ = generation.source
    assert f"{file} is not what was written: remove {generation.folder} and run" in str(told.value)
    shutil.rmtree(generation.folder)
    assert growth_is_due(settings) == 1
    grow_list(settings)
    listed_batches(settings.paths)
    assert (files(settings), live_rows(settings)) == (before, live)


def test_lost_rows_of_a_list_that_has_grown_go_by_way_of_another_folder(tmp_path: Path) -> None:
    rows = [{"identifier": f"http://a.org/{n}"} for n in range(9)]
    settings = begun(tmp_path, rows[:5])
    write(settings, rows)
    grow_list(settings)
    assert f"`previous_output: {settings.paths.root}`" in str(lost_rows(settings.paths, "a file"))
