import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import h5py
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distributed_downloader.errors import LockError
from distributed_downloader.records import ErrorClass, State
from distributed_downloader.storage import consolidation, parts, shards
from distributed_downloader.storage import removal as removing
from distributed_downloader.storage.batch_files import STATES, read_states
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.storage.error_records import MAX_REDIRECTS
from distributed_downloader.storage.image_files import ImageFile
from distributed_downloader.storage.parts import PROFILE_WAVE, list_parts
from distributed_downloader.storage.removal import compact_batch, remove_images
from distributed_downloader.tables import ERRORS, REMOVED, SUCCESSES
from tests.unit.storage_folder import (
    BATCH,
    ELSEWHERE,
    NOT_FOUND,
    START,
    Folder,
    Killed,
    allowed,
    encoded,
    failed,
    fetched,
    image_bytes,
    row,
)

ROOT = Path(__file__).parents[3]
WAVES = 3
DOWN = failed(ErrorClass.SERVER_DOWN, costs_a_try=False)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def consolidated(folder, total=10, **changes):
    options = {"retries_waves": WAVES, "allowed": allowed, **changes}
    return consolidate(folder.batch, folder.paths, total, **options)


def states(folder):
    table = read_states(folder.batch, folder.paths, WAVES)
    assert table.schema == STATES
    assert table["uuid"].is_unique().all()
    return dict(table.select("uuid", "state").iter_rows())


def known(folder, number=1):
    (said,) = read_states(folder.batch, folder.paths, WAVES).filter(uuid=f"row-{number}").to_dicts()
    return said


def shards_of(folder):
    return sorted(path.name for path in folder.images.glob("images-*.h5"))


def errors_of(folder):
    return pl.read_parquet(folder.images / "errors.parquet", hive_partitioning=False)


def removal(*numbers, refetch=False):
    return pl.DataFrame(
        {
            "uuid": [f"row-{number}" for number in numbers],
            "tool": "size_based",
            "reason": "too small",
            "refetch": refetch,
        }
    )


def test_a_batch_that_was_never_begun_is_all_pending(folder):
    assert consolidated(folder) == Counter(pending=10)
    assert states(folder) == {}
    assert not folder.images.exists()


def test_parts_become_one_shard_and_two_tables(folder):
    folder.commit({1: "ok", 2: NOT_FOUND, 3: "ok"}, rank=0)
    folder.commit({4: "ok", 5: failed()}, rank=1)
    counts = consolidated(folder)
    assert counts == {"ok": 3, "failed_final": 1, "failed_retryable": 1, "pending": 5}
    assert folder.stored() == {f"row-{n}": image_bytes(n) for n in (1, 3, 4)}
    assert shards_of(folder) == ["images-0.h5"]
    assert list_parts(folder.images) == []
    table = pl.read_parquet(folder.images / "successes.parquet", hive_partitioning=False)
    assert table.schema == SUCCESSES
    assert errors_of(folder).schema == ERRORS
    with h5py.File(folder.images / "images-0.h5") as file:
        assert file["data"].chunks is None
        assert file.attrs["server_name"] == BATCH.server_name


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


def test_more_images_go_into_new_shards(folder):
    folder.commit({1: "ok"})
    consolidated(folder)
    first = (folder.images / "images-0.h5").read_bytes()
    folder.commit({2: "ok"}, wave=1)
    consolidated(folder)
    assert shards_of(folder) == ["images-0.h5", "images-1.h5"]
    assert (folder.images / "images-0.h5").read_bytes() == first
    assert folder.stored() == {"row-1": image_bytes(1), "row-2": image_bytes(2)}


def test_nothing_new_writes_nothing(folder):
    folder.commit({1: "ok", 2: NOT_FOUND})
    consolidated(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.images.iterdir()}
    consolidated(folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.images.iterdir()} == before


def test_a_shard_has_a_limit(folder, monkeypatch):
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 40)
    folder.commit(dict.fromkeys(range(12), "ok"), keep_original=True)
    consolidated(folder)
    assert len(shards_of(folder)) > 3
    assert folder.stored() == {f"row-{n}": image_bytes(n) for n in range(12)}


def test_small_shards_are_merged_when_many(folder, monkeypatch):
    monkeypatch.setattr(consolidation, "MAX_SMALL_SHARDS", 3)
    for number in range(3):
        folder.commit({number: "ok"}, wave=number)
        consolidated(folder)
    assert len(shards_of(folder)) == 3
    folder.commit({3: "ok"}, wave=3)
    consolidated(folder)
    assert shards_of(folder) == ["images-3.h5"]
    assert folder.stored() == {f"row-{n}": image_bytes(n) for n in range(4)}


def test_large_shards_are_left_alone(folder, monkeypatch):
    monkeypatch.setattr(consolidation, "MAX_SMALL_SHARDS", 2)
    monkeypatch.setattr(consolidation, "SMALL_SHARD_BYTES", 1)
    for number in range(5):
        folder.commit({number: "ok"}, wave=number)
        consolidated(folder)
    assert len(shards_of(folder)) == 5


def test_originals_come_along(folder):
    folder.commit({1: "ok"})
    folder.commit({2: "ok"}, keep_original=True)
    consolidated(folder)
    with ImageFile(folder.images / "images-0.h5") as file:
        assert file.read(0, "original") == b""
        assert file.read(1, "original") == b"original of " + image_bytes(2)


def test_a_row_that_came_twice_is_stored_once(folder):
    folder.commit({1: "ok", 2: "ok"}, rank=0)
    folder.commit({1: "ok", 3: "ok"}, rank=1)
    consolidated(folder)
    folder.commit({2: "ok", 4: "ok"}, wave=1)
    consolidated(folder)
    assert sorted(folder.stored()) == ["row-1", "row-2", "row-3", "row-4"]
    with ImageFile(folder.images / "images-0.h5") as file:
        assert len(file) == 3


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


def test_completed_appears_when_every_row_is_final(folder):
    mark = folder.images / "completed"
    folder.commit({1: "ok", 2: NOT_FOUND, 3: failed()})
    consolidated(folder, total=3)
    assert not mark.exists()
    folder.commit({3: "ok"}, wave=1)
    counts = consolidated(folder, total=3)
    counted = {"rows": 3, "ok": 2, "failed_final": 1}
    told = {**counted, "retries_waves": 3, "retry_wave": 0, "seen": START + 3}
    assert json.loads(mark.read_text()) == told
    assert counts == {"ok": 2, "failed_final": 1}


def test_more_waves_allowed_makes_a_batch_unfinished_again(folder):
    folder.commit({1: failed()})
    consolidated(folder, total=1, retries_waves=1)
    assert (folder.images / "completed").exists()
    consolidated(folder, total=1, retries_waves=2)
    assert not (folder.images / "completed").exists()


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


@pytest.mark.parametrize("refetch", [True, False])
def test_a_removal_that_was_cut_holds(folder, monkeypatch, refetch):
    folder.commit({1: "ok", 2: "ok"})
    consolidated(folder, total=2)
    stop_at(monkeypatch, "remove:after_removed")
    with pytest.raises(Killed):
        remove_images(folder.batch, folder.paths, removal(1, refetch=refetch), allowed=allowed)
    monkeypatch.undo()
    expected = State.PENDING if refetch else State.REMOVED
    assert states(folder) == {"row-1": expected, "row-2": State.OK}
    folder.commit({3: "ok"}, wave=1)
    consolidated(folder, total=3)
    assert states(folder)["row-1"] == expected
    assert sorted(folder.stored()) == ["row-2", "row-3"]


def test_a_lost_lock_changes_nothing(folder):
    def forbidden():
        raise LockError("taken over")

    folder.commit({1: "ok"})
    before = sorted(folder.images.iterdir())
    with pytest.raises(LockError):
        consolidated(folder, allowed=forbidden)
    assert sorted(folder.images.iterdir()) == before


def test_orphans_go(folder):
    folder.commit({1: "ok"})
    consolidated(folder)
    (folder.images / ".tmp-1-part-0-0-0").mkdir()
    (folder.images / ".tmp-2-images-1.h5").write_text("half")
    shutil.copy(folder.images / "images-0.h5", folder.images / "images-7.h5")
    consolidated(folder)
    assert shards_of(folder) == ["images-0.h5"]
    assert list(folder.images.glob(".tmp*")) == []


def test_the_name_of_a_shard_is_not_used_again(folder, monkeypatch):
    """Not even when its images are gone: readers may still know it."""
    folder.commit({1: "ok"})
    consolidated(folder)
    remove_images(folder.batch, folder.paths, removal(1), allowed=allowed)
    consolidated(folder)
    assert shards_of(folder) == ["images-0.h5"]  # what was removed can be restored
    compact_batch(folder.batch, folder.paths, allowed=allowed)
    assert shards_of(folder) == []
    folder.commit({2: "ok"}, wave=1)
    consolidated(folder)
    assert shards_of(folder) == ["images-1.h5"]


def test_a_half_deleted_part_is_not_read_again(folder):
    part = folder.commit({1: "ok", 2: failed()})
    shutil.copytree(part, folder.paths.root / "saved")
    consolidated(folder)
    shutil.copytree(folder.paths.root / "saved", part)
    (part / "rows.parquet").unlink()
    assert states(folder) == {"row-1": State.OK, "row-2": State.FAILED_RETRYABLE}
    folder.commit({3: "ok"}, wave=1)
    consolidated(folder)
    assert list_parts(folder.images) == []
    assert sorted(folder.stored()) == ["row-1", "row-3"]


POINTS = [
    "part:before_write",
    "part:after_images",
    "part:before_rename",
    "part:after_rename",
    "consolidate:before_shard",
    "consolidate:after_shard",
    "consolidate:before_successes",
    "consolidate:after_successes",
    "consolidate:after_errors",
    "consolidate:after_removed",
    "consolidate:before_part_goes",
    "consolidate:after_parts",
    "consolidate:before_completed",
]


def stop_at(monkeypatch, point, times=1):
    """Raise Killed at the n-th passing of a crash point."""
    left = [times]

    def crash_point(name):
        if name == point:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    monkeypatch.setattr(parts, "crash_point", crash_point)
    for module in (consolidation, shards, removing):
        monkeypatch.setattr(module, "crash_point", crash_point)


OUTCOMES = {"ok": "ok", "not found": NOT_FOUND, "failed": failed(), "down": DOWN, "away": ELSEWHERE}

commits = st.tuples(
    st.integers(0, 2),  # rank
    st.dictionaries(st.integers(0, 9), st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=6),
    st.sampled_from(["", *POINTS]),
    st.integers(1, 2),
    st.booleans(),  # consolidate after it
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(commits, min_size=1, max_size=6))
def test_nothing_is_lost_and_nothing_twice_whatever_is_killed(tmp_path_factory, steps):
    folder = Folder(tmp_path_factory.mktemp("out"))
    ok, history = set(), {}
    for wave, (rank, outcomes, point, times, consolidates) in enumerate(steps):
        before = len(list_parts(folder.images))
        with pytest.MonkeyPatch.context() as monkeypatch:
            stop_at(monkeypatch, point, times)
            try:
                folder.commit({n: OUTCOMES[o] for n, o in outcomes.items()}, wave=wave, rank=rank)
                is_there = True
            except Killed:
                is_there = len(list_parts(folder.images)) > before
            if is_there:
                ok |= {n for n, outcome in outcomes.items() if outcome == "ok"}
                for number, outcome in outcomes.items():
                    if outcome != "ok":
                        history.setdefault(number, []).append(outcome)
            check_states(folder, ok, history)
            if consolidates:
                try:
                    consolidated(folder)
                except Killed:
                    check_states(folder, ok, history)
    consolidated(folder)
    check_states(folder, ok, history)
    if folder.images.exists() and (folder.images / "successes.parquet").exists():
        assert folder.stored() == {f"row-{n}": image_bytes(n) for n in ok}
    leftovers = [p.name for p in folder.images.glob("*") if p.name.startswith((".tmp", "part-"))]
    assert leftovers == []


def check_states(folder, ok, history):
    expected = {f"row-{n}": State.OK for n in ok}
    for number, outcomes in history.items():
        expected.setdefault(f"row-{number}", expected_state(outcomes))
    assert states(folder) == expected


def expected_state(outcomes):
    trailing = 0
    for outcome in reversed(outcomes):
        if outcome != "away":
            break
        trailing += 1
    match outcomes[-1]:
        case "not found":
            return State.FAILED_FINAL
        case "away":
            return State.FAILED_FINAL if trailing >= MAX_REDIRECTS else State.PENDING
    # rows of this test carry nothing in, so each says 1: the largest is what they agree on
    return State.FAILED_RETRYABLE


WORK_AND_DIE = """
import sys
from pathlib import Path
from distributed_downloader.storage.consolidation import consolidate
from tests.unit.storage_folder import *
folder = Folder(Path(sys.argv[1]))
consolidate(folder.batch, folder.paths, 4, retries_waves=3, allowed=allowed)
"""


@pytest.mark.parametrize("point", [name for name in POINTS if name.startswith("consolidate")])
def test_a_real_kill_in_a_consolidation_is_repaired_by_the_next(tmp_path, point):
    folder = Folder(tmp_path)
    folder.commit({1: "ok", 2: NOT_FOUND, 3: "ok"})
    consolidated(folder, total=4)
    remove_images(folder.batch, folder.paths, removal(3, refetch=True), allowed=allowed)
    folder.commit({3: "ok", 4: NOT_FOUND}, wave=1)
    before = states(folder)
    done = subprocess.run(
        [sys.executable, "-c", WORK_AND_DIE, str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}", "DOWNLOADER_CRASH_AT": point},
        check=False,
    )
    assert done.returncode == -9
    assert states(folder) == before
    assert consolidated(folder, total=4) == {"ok": 2, "failed_final": 2}
    assert folder.stored() == {"row-1": image_bytes(1), "row-3": image_bytes(3)}
    assert (folder.images / "completed").exists()
    assert list_parts(folder.images) == []
