import polars as pl
import pytest

from distributed_downloader.records import ErrorClass, State
from distributed_downloader.storage.batch_files import read_states
from distributed_downloader.storage.error_records import MAX_REDIRECTS
from distributed_downloader.storage.parts import PROFILE_WAVE
from distributed_downloader.storage.removal import remove_images
from distributed_downloader.tables import REMOVED
from tests.unit.storage.one_batch import (
    DOWN,
    WAVES,
    consolidated,
    errors_of,
    known,
    removal,
    states,
)
from tests.unit.storage_folder import (
    ELSEWHERE,
    NOT_FOUND,
    START,
    allowed,
    encoded,
    failed,
    fetched,
    row,
)


def test_states_are_the_same_before_and_after(folder):
    folder.commit({1: "ok", 2: NOT_FOUND, 3: failed(), 4: ELSEWHERE})
    folder.commit({3: failed(), 5: failed(ErrorClass.ROBOTS_DISALLOWED, retryable=False)}, wave=1)
    before = read_states(folder.batch, folder.paths, WAVES).sort("uuid")
    consolidated(folder)
    assert read_states(folder.batch, folder.paths, WAVES).sort("uuid").equals(before)
    assert dict(before.select("uuid", "state").iter_rows()) == {
        "row-1": State.OK,
        "row-2": State.FAILED_FINAL,
        "row-3": State.FAILED_RETRYABLE,
        "row-4": State.PENDING,
        "row-5": State.REFUSED,
    }


@pytest.mark.parametrize("older", [0, 1])
def test_of_several_images_of_a_row_the_oldest_counts(folder, older):
    for rank in (0, 1):
        writer = folder.writer(rank=rank)
        folder.clock.now = START + (0 if rank == older else 500)
        writer.add_image(row(1), fetched(1), encoded(f"from rank {rank}".encode()))
        writer.commit(folder.images, allowed)
    consolidated(folder)
    assert folder.stored() == {"row-1": f"from rank {older}".encode()}


def test_an_image_beats_an_error_whichever_came_first(folder):
    folder.commit({1: "ok", 2: failed()})
    consolidated(folder)
    folder.commit({1: failed(), 2: "ok"}, wave=1)
    assert set(states(folder).values()) == {State.OK}
    consolidated(folder)
    assert set(states(folder).values()) == {State.OK}
    assert errors_of(folder).is_empty()


def test_of_several_errors_the_newest_counts_and_requests_add_up(folder):
    folder.commit({1: (failed(), 3, row(1))})
    folder.commit({1: (NOT_FOUND, 2, row(1, waves_tried=1))}, wave=1)
    said = known(folder)
    assert (said["error_class"], said["waves_tried"], said["retry_count"]) == ("not_found", 1, 4)
    consolidated(folder)
    assert known(folder) == said


@pytest.mark.parametrize("consolidates", [True, False])
@pytest.mark.parametrize(
    ("tries", "waves_tried"),
    [
        ([(0, failed())], 1),
        ([(0, failed()), (1, failed())], 2),
        ([(0, failed()), (0, failed())], 1),  # the wave was killed and started again
        ([(0, failed()), (0, DOWN), (0, failed())], 1),
        ([(0, DOWN), (0, failed())], 1),
        ([(0, DOWN), (1, DOWN)], 0),
        ([(0, failed()), (1, DOWN), (1, failed()), (2, DOWN)], 2),
        ([(PROFILE_WAVE, failed()), (0, failed())], 1),
        ([(0, ELSEWHERE), (1, failed()), (2, ELSEWHERE), (3, failed())], 2),
    ],
)
def test_waves_tried_counts_each_wave_once(folder, tries, waves_tried, consolidates):
    """Each try is planned from what read_states says at the time, as a rank does it."""
    for wave, outcome in tries:
        table = read_states(folder.batch, folder.paths, WAVES)
        carried = 0 if table.is_empty() else table["waves_tried"][0]
        folder.commit({1: (outcome, 1, row(1, waves_tried=carried))}, wave=wave)
        if consolidates:
            consolidated(folder)
    assert known(folder)["waves_tried"] == waves_tried


def test_two_ranks_that_try_a_row_in_one_wave_count_once(folder):
    folder.commit({1: (failed(), 1, row(1, waves_tried=1))}, wave=4, rank=0)
    folder.commit({1: (failed(), 1, row(1, waves_tried=1))}, wave=4, rank=1)
    assert known(folder)["waves_tried"] == 2


def test_a_row_is_final_after_so_many_waves(folder):
    for wave in range(WAVES):
        assert states(folder).get("row-1", State.FAILED_RETRYABLE) == State.FAILED_RETRYABLE
        folder.commit({1: (failed(), 1, row(1, waves_tried=wave))}, wave=wave)
    assert states(folder)["row-1"] == State.FAILED_FINAL


def test_a_redirect_elsewhere_is_pending_with_its_target(folder):
    folder.commit({1: failed(), 2: ELSEWHERE})
    folder.commit({1: ELSEWHERE}, wave=1)
    consolidated(folder)
    assert known(folder)["state"] == State.PENDING
    assert known(folder)["target"] == "http://cdn.example.net/x"
    folder.commit({1: failed()}, wave=2)
    assert known(folder)["target"] is None
    assert known(folder)["state"] == State.FAILED_RETRYABLE


@pytest.mark.parametrize("consolidates", [True, False])
def test_redirects_that_never_arrive_end(folder, consolidates):
    for wave in range(MAX_REDIRECTS):
        assert states(folder).get("row-1", State.PENDING) == State.PENDING
        folder.commit({1: ELSEWHERE}, wave=wave)
        if consolidates:
            consolidated(folder)
    said = known(folder)
    assert (said["state"], said["error_class"]) == (State.FAILED_FINAL, "redirect_loop")


@pytest.mark.parametrize("consolidates", [True, False])
def test_redirects_are_counted_in_a_row_only(folder, consolidates):
    outcomes = [ELSEWHERE] * (MAX_REDIRECTS - 1) + [DOWN] + [ELSEWHERE] * (MAX_REDIRECTS - 1)
    for wave, outcome in enumerate(outcomes):
        folder.commit({1: outcome}, wave=wave)
        if consolidates:
            consolidated(folder)
    assert known(folder)["state"] == State.PENDING


def test_a_removed_image_is_removed_whatever_else_is_known(folder):
    folder.commit({1: "ok", 2: "ok"})
    consolidated(folder, total=2)
    assert remove_images(folder.batch, folder.paths, removal(1, 99), allowed=allowed) == 1
    folder.commit({1: "ok"}, wave=1)
    assert states(folder) == {"row-1": State.REMOVED, "row-2": State.OK}
    assert consolidated(folder, total=2) == {"removed": 1, "ok": 1}
    assert list(folder.stored()) == ["row-2"]
    table = pl.read_parquet(folder.images / "removed.parquet", hive_partitioning=False)
    assert table.schema == REMOVED
    assert table["reason"].to_list() == ["too small"]


def test_an_image_removed_for_refetching_is_pending_until_it_has_another(folder):
    folder.commit({1: "ok"})
    consolidated(folder, total=1)
    remove_images(folder.batch, folder.paths, removal(1, refetch=True), allowed=allowed)
    assert not (folder.images / "completed").exists()
    assert states(folder) == {"row-1": State.PENDING}
    assert consolidated(folder, total=1) == {"pending": 1}
    folder.commit({1: failed()}, wave=1)
    assert states(folder) == {"row-1": State.FAILED_RETRYABLE}
    folder.commit({1: "ok"}, wave=2)
    assert states(folder) == {"row-1": State.OK}
    assert consolidated(folder, total=1) == {"ok": 1}
    removed = pl.read_parquet(folder.images / "removed.parquet", hive_partitioning=False)
    assert removed.is_empty()
    assert consolidated(folder, total=1) == {"ok": 1}
