import shutil
import tempfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distributed_downloader.accounts import repeats
from distributed_downloader.accounts.ledger import write_ledger
from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.durable import read_json, write_json, write_parquet
from distributed_downloader.errors import LedgerError
from distributed_downloader.paths import Batch
from distributed_downloader.records import ErrorClass, Failed, Row, State
from distributed_downloader.storage.parts import PartNames, PartWriter
from distributed_downloader.tables import LEDGER
from distributed_downloader.waves.left import Block, write_left
from tests.unit.dataset_folder import OUTCOMES, RETRYABLE, START, DatasetFolder, state_of

A, A1, B = Batch("a.example", 0), Batch("a.example", 1), Batch("b.example:8080", 0)


@pytest.fixture
def folder(tmp_path):
    folder = DatasetFolder(tmp_path / "out", rejected=2, duplicates=3)
    folder.add(A, ["ok", "ok", ErrorClass.NOT_FOUND, "pending"])
    folder.add(A1, ["ok", ErrorClass.TIMEOUT])
    folder.add(B, ["ok", ErrorClass.ROBOTS_DISALLOWED, "pending"])
    return folder.finish()


def ledger_of(folder):
    return pl.read_parquet(folder.paths.ledger)


def expected(folder):
    states = Counter(state_of(row[2]) for rows in folder.batches.values() for row in rows)
    states[State.REJECTED] += folder.rejected
    states[State.DUPLICATE] += folder.duplicates
    return {state.value: states[state] for state in State}


def test_every_row_has_one_state(folder):
    counts = write_ledger(folder.settings())
    ledger = ledger_of(folder)
    assert ledger.schema == LEDGER
    assert len(ledger) == counts.rows == folder.rows == 14
    assert counts.states == expected(folder)
    assert Counter(ledger["state"]) == {s: n for s, n in counts.states.items() if n}


def test_rejected_row_keeps_its_reason_and_has_no_batch(folder):
    write_ledger(folder.settings())
    rejected = ledger_of(folder).filter(state="rejected").row(0, named=True)
    assert (rejected["error_class"], rejected["server_name"]) == ("no_host", None)


def test_counts_by_server_and_group(folder):
    counts = write_ledger(folder.settings(), group_of=lambda server: server.partition(".")[0])
    assert {group: rows.rows for group, rows in counts.left.items()} == {"a": 2, "b": 1}
    table = counts.servers.filter(server="a.example", state="ok")
    assert table["rows"].to_list() == [3]


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    batches=st.lists(st.lists(st.sampled_from(OUTCOMES), max_size=12), min_size=1, max_size=6),
    rejected=st.integers(0, 3),
    duplicates=st.integers(0, 3),
)
def test_random_states_add_up(batches, rejected, duplicates):
    with tempfile.TemporaryDirectory() as root:
        folder = DatasetFolder(Path(root), rejected, duplicates)
        for number, outcomes in enumerate(batches):
            folder.add(Batch(f"server-{number % 3}", number), outcomes, wave=number % 2)
        counts = write_ledger(folder.finish().settings())
        assert counts.states == expected(folder)
        assert sum(counts.states.values()) == len(ledger_of(folder)) == folder.rows
        assert sum(counts.timeline.images.values()) == counts.states["ok"]
        assert sum(wave.images for wave in counts.waves.values()) == counts.states["ok"]


@pytest.mark.parametrize("ignored", ["a.example", "example", "A.Example."])
def test_ignored_server_keeps_what_it_gave(folder, ignored):
    folder.paths.ignored_table.write_text(f"server_name\n{ignored}\n")
    counts = write_ledger(folder.settings())
    mine = counts.servers.filter(server="a.example").group_by("state").agg(pl.sum("rows"))
    assert dict(mine.iter_rows()) == {"ok": 3, "ignored": 3}
    assert "a.example" not in counts.left


def test_redirected_row_counts_for_the_group_of_its_target(folder):
    writer = PartWriter(A, PartNames(0, 1))
    row = Row("uuid-4", None, "http://a.example/x", "a.example", A)
    elsewhere = Failed(ErrorClass.REDIRECT_ELSEWHERE, 302, "", True, "http://cdn.example:81/x")
    writer.add_error(row, elsewhere)
    writer.commit(folder.paths.batch_images(A), lambda: None)
    counts = write_ledger(folder.settings())
    assert counts.left["cdn.example:81"].pending == 1


def refused(folder, match):
    with pytest.raises(LedgerError, match=match):
        write_ledger(folder.settings())
    assert not folder.paths.ledger.exists()
    assert not list(folder.paths.root.glob(".tmp-*"))


def test_removed_list_of_a_batch_is_named(folder):
    folder.paths.batch_urls(A1).unlink()
    refused(folder, r"partition_id=1 has no urls.parquet")


def test_damaged_list_of_a_batch_is_named(folder):
    file = folder.paths.batch_urls(A1)
    file.write_bytes(file.read_bytes()[:-1])
    refused(folder, r"partition_id=1 has a damaged urls.parquet.*remove .*partitions.parquet and")


def test_short_list_of_a_batch_is_named(folder):
    table = pl.read_parquet(folder.paths.batch_urls(B), hive_partitioning=False)
    write_parquet(folder.paths.batch_urls(B), table.head(2))
    refused(folder, r"server_name=b.example%3A8080/partition_id=0 has 2 rows .*, 3 in partitions")


def test_input_that_is_not_accounted_for_is_told_in_numbers(folder):
    write_json(folder.paths.source, {"counts": {"rows": 15}})
    refused(folder, r"the input had 15 rows, but 9 fetchable \+ 3 duplicates \+ 2 rejected = 14")


def test_batch_that_nobody_listed_is_named(folder):
    shutil.copytree(folder.paths.urls / B.folder, folder.paths.urls / Batch("c", 7).folder)
    refused(folder, r"server_name=c/partition_id=7 is not in partitions.parquet")


def test_uuid_in_two_batches_is_named(folder):
    table = pl.read_parquet(folder.paths.batch_urls(B), hive_partitioning=False)
    doubled = table.with_columns(uuid=pl.col("uuid").replace("uuid-9", "uuid-4"))
    write_parquet(folder.paths.batch_urls(B), doubled)
    refused(folder, r"uuid-4 occurs 2 times: in (?=.*=a\.example/)(?=.*=b\.example)")


def test_uuid_that_is_a_duplicate_too_is_named(folder):
    table = pl.read_parquet(folder.paths.duplicates)
    write_parquet(folder.paths.duplicates, table.with_columns(uuid=pl.lit("uuid-1")).head(3))
    refused(folder, r"the uuid uuid-1 occurs 4 times: in .*a\.example.*duplicates\.parquet")


def test_many_problems_are_counted(tmp_path):
    folder = DatasetFolder(tmp_path)
    for number in range(9):
        folder.add(Batch("a", number), ["pending"])
    folder.finish()
    for number in range(9):
        folder.paths.batch_urls(Batch("a", number)).unlink()
    refused(folder, r"has no urls.parquet; and \d+ more, see the log")


def test_unpartitioned_folder_says_so(tmp_path):
    with pytest.raises(LedgerError, match=r"partitions.parquet is missing"):
        write_ledger(DatasetFolder(tmp_path).settings())


def test_a_uuid_is_found_again_over_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(repeats, "ROWS_PER_FILE", 10)
    uuids = pl.Series([f"uuid-{number}" for number in range(1000)])
    with repeats.Repeats(tmp_path, len(uuids)) as seen:
        seen.add(uuids)
        seen.add(uuids[[7, 700]])
        twice = pl.DataFrame({"u": uuids[[7, 700]]}).select(repeats.hash_of(pl.col("u")))
        assert sorted(seen.hashes()) == sorted(twice.to_series())
    assert not list(tmp_path.iterdir())


def left_of(folder, blocks=None):
    verify_dataset(folder.settings(), load_blocks=lambda: blocks or {})
    return read_json(folder.paths.left)


def test_left_counts_what_is_not_final(folder):
    left = left_of(folder)
    assert (left["left"], left["pending"], left["retryable"]) == (3, 2, 1)
    assert (left["groups"], left["free_at"], left["waves"]) == ({}, 0, 0)


def test_left_waits_for_the_first_of_blocked_groups(folder):
    far = START * 10
    blocks = {
        "a.example": Block(far, "429 with Retry-After"),
        "b.example": Block(far - 5, "503"),
        "c.example": Block(far - 9, "nothing left there"),
    }
    left = left_of(folder, blocks)
    assert left["free_at"] == far - 5
    assert set(left["groups"]) == {"a.example", "b.example"}
    assert left["groups"]["a.example"]["left"] == 2


@pytest.mark.parametrize("until", [0.0, 10.0])
def test_left_is_free_when_one_group_is(folder, until):
    blocks = {"a.example": Block(START * 10, "429"), "b.example": Block(until, "over")}
    left = left_of(folder, blocks)
    assert left["free_at"] == 0
    assert set(left["groups"]) == {"a.example"}


def test_left_of_a_finished_folder_is_nothing(tmp_path):
    folder = DatasetFolder(tmp_path)
    folder.add(A, ["ok"])
    folder.finish().learn(0, [])
    left = left_of(folder, {"a.example": Block(START * 10, "429")})
    assert (left["left"], left["groups"], left["free_at"], left["waves"]) == (0, {}, 0, 1)


def test_wave_writes_left_without_a_ledger(folder):
    value = write_left(folder.paths, {}, {}, waves=4, now=lambda: START)
    assert value == read_json(folder.paths.left)
    assert (value["waves"], value["written"]) == (4, START)


def test_every_retryable_class_is_left(tmp_path):
    folder = DatasetFolder(tmp_path)
    folder.add(A, list(RETRYABLE))
    assert left_of(folder.finish())["retryable"] == len(RETRYABLE)
