"""What is left of a batch, for whom, and its rows one by one."""

import os

import pytest

from distributed_downloader.errors import FolderError
from distributed_downloader.paths import Batch
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.storage.parts import list_parts
from distributed_downloader.waves.left import LeftRows
from distributed_downloader.waves.settling import settle_batches
from distributed_downloader.waves.worklist import (
    SLICE_ROWS,
    RowsLeft,
    count_left,
    read_rows,
    rows_left,
)
from tests.unit.batches import BROKEN, NOT_FOUND, REFUSED, elsewhere, partition, store
from tests.unit.conftest import make_settings

A = Batch("a.org", 0)
SMALL = Batch("_small-12ab", 0)
URLS = [f"http://a.org/{number}" for number in range(6)]


def test_final_rows_are_not_left_whatever_made_them_final(settings):
    partition(settings.paths, {A: URLS})
    outcomes = dict(zip(URLS, [None, NOT_FOUND, REFUSED, BROKEN, None], strict=False))
    store(settings.paths, A, outcomes)
    left = rows_left(A, settings)
    assert left.by_group == {"a.org": LeftRows(1, 1, frozenset({"a.org"}))}
    rows = list(read_rows(left, "a.org", settings.paths))
    assert [(row.uuid, row.waves_tried) for row in rows] == [(URLS[3], 1), (URLS[5], 0)]
    assert rows[0].meta == {
        "license": "the license",
        "source": "the source",
        "title": "the title",
        "expected_hash": None,
    }


def test_nothing_is_left_of_a_finished_batch(settings):
    partition(settings.paths, {A: URLS})
    store(settings.paths, A, dict.fromkeys(URLS))
    left = rows_left(A, settings)
    assert left.by_group == {}
    assert list(read_rows(left, "a.org", settings.paths)) == []


def test_damage_that_a_wave_meets_costs_what_is_damaged_only(settings):
    partition(settings.paths, {A: URLS})
    store(settings.paths, A, dict.fromkeys(URLS[:3]))
    store(settings.paths, A, dict.fromkeys(URLS[3:5], NOT_FOUND))
    store(settings.paths, A, dict.fromkeys(URLS[5:]), wave=1)
    *_, last = list_parts(settings.paths.batch_images(A))
    os.truncate(last / "images.h5", 50)
    settle_batches(settings, {A: len(URLS)}, lambda: None)
    left = rows_left(A, settings)
    assert [row.uuid for row in read_rows(left, "a.org", settings.paths)] == URLS[5:]


def test_a_table_that_cannot_be_read_is_one_sentence(settings):
    partition(settings.paths, {A: URLS})
    store(settings.paths, A, dict.fromkeys(URLS))
    settle_batches(settings, {A: len(URLS)}, lambda: None)
    os.truncate(settings.paths.batch_images(A) / "successes.parquet", 50)
    with pytest.raises(FolderError, match=r"a.org/partition_id=0/successes.parquet is damaged"):
        rows_left(A, settings)


def test_a_redirected_row_is_left_for_the_group_of_its_target(settings):
    partition(settings.paths, {A: URLS})
    target = "http://img.cdn.net/x"
    store(settings.paths, A, {URLS[0]: elsewhere(target)})
    left = rows_left(A, settings)
    assert left.by_group == {
        "a.org": LeftRows(5, 0, frozenset({"a.org"})),
        "cdn.net": LeftRows(1, 0, *[frozenset({"img.cdn.net"})] * 2),
    }
    (row,) = read_rows(left, "cdn.net", settings.paths)
    assert (row.identifier, row.target, row.server) == (URLS[0], target, "a.org")


def test_rows_of_ignored_servers_are_left_out_their_neighbours_are_not(settings):
    urls = ["http://x.one.org/1", "http://two.org/1", "http://three.org/1"]
    partition(settings.paths, {SMALL: urls})
    left = rows_left(SMALL, settings, frozenset({"one.org"}))
    assert sorted(left.by_group) == ["three.org", "two.org"]


def test_a_long_batch_comes_in_slices_complete_and_in_order(settings):
    urls = [f"http://a.org/{number:04}" for number in range(3 * SLICE_ROWS + 7)]
    partition(settings.paths, {A: urls})
    store(settings.paths, A, dict.fromkeys(urls[100:400:2], NOT_FOUND))
    done = set(urls[100:400:2])
    rows = read_rows(rows_left(A, settings), "a.org", settings.paths)
    assert [row.uuid for row in rows] == [url for url in urls if url not in done]


def test_no_rows_of_a_group_are_no_rows(settings):
    partition(settings.paths, {A: URLS})
    left = rows_left(A, settings)
    assert list(read_rows(left, "b.org", settings.paths)) == []
    assert list(read_rows(RowsLeft(A, left.table.clear()), "a.org", settings.paths)) == []


def test_a_batch_that_nobody_touched_is_counted_without_opening_it(settings):
    expected = {"a.org": LeftRows(6, 0, frozenset({"a.org"}))}
    assert count_left(A, 6, settings) == expected
    assert count_left(A, 6, settings, frozenset({"a.org"})) == {}
    partition(settings.paths, {A: URLS})
    assert rows_left(A, settings).by_group == expected


@pytest.mark.parametrize(("waves", "left"), [(1, 0), (2, 1)])
def test_a_completed_batch_is_looked_at_again_when_more_waves_are_allowed(tmp_path, waves, left):
    settings = make_settings(tmp_path, retries={"waves": waves})
    partition(settings.paths, {A: URLS[:1]})
    store(settings.paths, A, {URLS[0]: BROKEN})
    consolidate(A, settings.paths, 1, retries_waves=1, allowed=lambda: None)
    counted = count_left(A, 1, settings)
    assert sum(rows.rows for rows in counted.values()) == left
