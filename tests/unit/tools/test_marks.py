"""Marks: appended after the work, read whatever a kill left of them."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.tools.marks import Marks, hash_of
from tests.unit.images_folder import ONE, TWO


def test_the_latest_mark_counts_over_all_ranks(tmp_path):
    times = iter([1.0, 2.0, 3.0])
    marks = Marks(tmp_path, now=lambda: next(times))
    marks.append(1, ONE, "old", 5)
    marks.append(0, TWO, "other", 6)
    marks.append(0, ONE, "new", 7)
    found = Marks(tmp_path).read()
    assert {batch: (mark.table, mark.images) for batch, mark in found.items()} == {
        ONE: ("new", 7),
        TWO: ("other", 6),
    }


@pytest.mark.parametrize("ahead_s", [3600.0, 0.0])
def test_a_later_mark_counts_whatever_the_clock_of_its_node_says(tmp_path, ahead_s):
    now = 1_800_000_000.0
    Marks(tmp_path, now=lambda: now + ahead_s).append(1, ONE, "old", 5)
    later = Marks(tmp_path, now=lambda: now)
    for table in ("new", "newest"):
        later.append(0, ONE, table, 6)
        later.append(0, TWO, table, 7)
        assert {mark.table for mark in Marks(tmp_path).read().values()} == {table}
    assert Marks(tmp_path).read()[TWO].finished - now < 1  # its own clock, as nobody was ahead


@given(st.integers(0, 200))
def test_a_line_that_was_cut_costs_its_own_mark_at_most(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("marks")
    marks = Marks(folder)
    marks.append(0, ONE, "a", 1)
    file = folder / "0.csv"
    whole = file.read_bytes()
    marks.append(0, TWO, "b", 2)
    second = file.read_bytes()[len(whole) :]
    file.write_bytes(whole + second[: cut % (len(second) + 1)])
    marks.append(0, TWO, "c", 3)
    found = Marks(folder).read()
    assert (found[ONE].table, found[TWO].table) == ("a", "c")


def rows(*uuids, hashsum="h"):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    values = {"uuid": uuids, "hashsum_resized": [hashsum] * len(uuids)}
    return pl.LazyFrame({**values, "fetched_at": [now] * len(uuids)})


def test_the_hash_is_of_the_images_and_the_settings_whatever_their_order():
    known = hash_of(rows("a", "b"), {"size": 1})
    assert hash_of(rows("b", "a"), {"size": 1}) == known
    others = [(rows("a"), 1), (rows("a", "b", hashsum="g"), 1), (rows("a", "b"), 2)]
    assert known not in {hash_of(table, {"size": size}) for table, size in others}
