"""What verify says of the waves' own record of their politeness."""

from pathlib import Path

import pytest

from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.courtesy.budgets import Budget
from distributed_downloader.courtesy.group_pace import GroupPace
from distributed_downloader.errors import PolitenessError
from distributed_downloader.paths import Batch
from distributed_downloader.waves.memories import PROFILE_FOLDER, Memory, memory_file, save_memories
from tests.unit.dataset_folder import DatasetFolder

FAIR = {"group": "a.example", "limit": 3.0, "burst": 2, "peak_1s": 5, "peak_10s": 32}


@pytest.fixture
def folder(tmp_path: Path) -> DatasetFolder:
    folder = DatasetFolder(tmp_path)
    folder.add(Batch("a.example", 0), ["ok"])
    return folder.finish()


def killed(folder: Path, rank: int, peak: int) -> None:
    """What a rank had written when it was killed."""
    audit = GroupPace(Budget("a.example", 3.0)).audit(rank) | {"peak_1s": peak}
    save_memories(memory_file(folder, rank), {"a.example": Memory("a.example")}, [audit])


def test_peaks_within_their_budgets_pass(folder: DatasetFolder) -> None:
    folder.learn(0, [FAIR, {**FAIR, "group": "never.asked", "peak_1s": 0, "peak_10s": None}])
    killed(folder.paths.wave(1), 0, peak=4)
    verify_dataset(folder.settings())


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"peak_1s": 6}, "asked 6 times within 1 s, but its limit of 3/s with burst 2 allows 5"),
        ({"peak_10s": 33}, "asked 33 times within 10 s"),
    ],
)
def test_a_peak_over_its_budget_fails_and_everything_is_written_all_the_same(
    folder: DatasetFolder, over: dict[str, int], said: str
) -> None:
    folder.learn(0, [FAIR])
    folder.learn(1, [{**FAIR, **over}])
    with pytest.raises(PolitenessError, match=said):
        verify_dataset(folder.settings())
    assert folder.paths.ledger.exists()
    assert folder.paths.summary.exists()


def test_a_wave_that_was_killed_is_judged_too(folder: DatasetFolder) -> None:
    killed(folder.paths.wave(0), 0, peak=4)
    killed(folder.paths.wave(0), 1, peak=5)
    with pytest.raises(PolitenessError, match="asked 5 times within 1 s"):
        verify_dataset(folder.settings())


def test_profile_is_judged_too(folder: DatasetFolder) -> None:
    killed(folder.paths.schedules / PROFILE_FOLDER, 0, peak=9)
    with pytest.raises(PolitenessError, match="asked 9 times"):
        verify_dataset(folder.settings())
