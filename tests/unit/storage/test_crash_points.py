import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distributed_downloader.records import State
from distributed_downloader.storage import consolidation, parts, shards
from distributed_downloader.storage import removal as removing
from distributed_downloader.storage.error_records import MAX_REDIRECTS
from distributed_downloader.storage.parts import list_parts
from distributed_downloader.storage.removal import remove_images
from tests.unit.storage.one_batch import DOWN, consolidated, removal, states
from tests.unit.storage_folder import (
    ELSEWHERE,
    NOT_FOUND,
    Folder,
    Killed,
    allowed,
    failed,
    image_bytes,
)

ROOT = Path(__file__).parents[3]


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
