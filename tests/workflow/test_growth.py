"""A list that grows, shrinks and changes in its folder: judged at the servers and the ledger."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from distributed_downloader.fleet.plan import FleetPlan, HostPlan
from distributed_downloader.fleet.running import Fleet, running_fleet
from distributed_downloader.paths import OutputPaths
from distributed_downloader.storage.dataset import Dataset
from tests.workflow.stages import SCRIPTS, Stages
from tests.workflow.test_crash_points import KILLED, asked, config_of
from tests.workflow.test_whole_run import image_requests

HOSTS = (
    HostPlan(name="a.one.test", address="127.0.31.1", images=14, photos="tiny"),
    HostPlan(name="b.two.test", address="127.0.31.2", images=6, photos="tiny"),
    HostPlan(name="c.three.test", address="127.0.31.3", images=4, photos="tiny"),
)
IN_MODULES = ("lists/growth.py", "waves/growing.py")


def crash_points() -> list[str]:
    found = set()
    for module in IN_MODULES:
        text = (SCRIPTS / "distributed_downloader" / module).read_text()
        found |= set(re.findall(r'crash_point\("([\w:]+)"\)', text))
    return sorted(name for name in found - {"grow:taken_back"} if name.startswith("grow:"))


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with running_fleet(FleetPlan(hosts=HOSTS)) as fleet:
        yield fleet


def rows_of(fleet: Fleet) -> list[tuple[str, str]]:
    """uuid and URL of every image there is."""
    return [(f"row-{number:02}", url) for number, url in enumerate(sorted(fleet.urls()))]


def write_rows(config: dict[str, Any], rows: list[tuple[str, str]]) -> None:
    lines = ["uuid,identifier", *(",".join(row) for row in rows)]
    Path(config["path_to_input"]).write_text("\n".join(lines) + "\n")


def lists(fleet: Fleet) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The first list, and that of next month: 3 rows gone, 1 with another URL, 5 new ones."""
    rows = rows_of(fleet)
    first, later = rows[:18], [*rows[3:17], *rows[18:23]]
    moved = (rows[17][0], rows[23][1])
    return first, [*later[::-1], moved]


GONE, KEPT, NEW = 3, 14, 6
STAGES = ("grow", "waves", "verify")


@pytest.fixture(scope="module")
def first_month(fleet: Fleet, stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder that is done with the first list."""
    folder = tmp_path_factory.mktemp("first") / "out"
    config = config_of(fleet, folder)
    write_rows(config, lists(fleet)[0])
    assert stages.play(config, "partition", "profile", "waves", "verify") == 0
    return folder


@pytest.fixture
def config(fleet: Fleet, first_month: Path, tmp_path: Path) -> dict[str, Any]:
    """A copy of that folder, with the second list to go on with."""
    shutil.copytree(first_month, tmp_path / "out")
    config = config_of(fleet, tmp_path / "out")
    write_rows(config, lists(fleet)[1])
    return config


def images_of(paths: OutputPaths) -> dict[tuple[str, str], str]:
    """uuid and URL -> MD5 of the stored bytes, of all images there are."""
    with Dataset(paths.root) as dataset:
        found = {
            (record.uuid, record.row["identifier"]): hashlib.md5(record.bytes).hexdigest()
            for record in dataset
        }
        assert len(found) == len(dataset)
        hashes = set(dataset.table().select("hashsum_resized").collect().to_series())
    assert set(found.values()) == hashes
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("urls.parquet")}


def assert_grown(paths: OutputPaths, fleet: Fleet) -> None:
    """The ledger is the second list's; images of rows that are gone are still there."""
    first, later = lists(fleet)
    ledger = pl.read_parquet(paths.ledger)
    assert set(ledger["uuid"]) == {uuid for uuid, _ in later}
    assert dict(ledger.group_by("state").len().iter_rows()) == {"ok": len(later)}
    tombstones = pl.read_parquet(paths.tombstones)
    assert dict(tombstones.group_by("reason").len().iter_rows()) == {"gone": 3, "url_changed": 1}
    assert set(images_of(paths)) == {*later, *first[:GONE]}
    assert not list(paths.root.rglob(".tmp-*"))
    assert not (paths.generations / "next").exists()


@pytest.mark.parametrize("name", crash_points())
def test_after_a_kill_at_each_step_the_same_command_asks_for_new_rows_alone(
    name, fleet, config, stages
):
    paths = OutputPaths.of(Path(config["path_to_output"]))
    old, images = files_of(paths.urls), images_of(paths)
    before = len(fleet.accesses())

    assert stages.play(config, *STAGES, crash_at=name) == KILLED
    assert stages.play(config, *STAGES) == 0

    assert_grown(paths, fleet)
    assert old.items() <= files_of(paths.urls).items()
    assert {key: images[key] for key in lists(fleet)[0][:17]}.items() <= images_of(paths).items()
    requests = asked(fleet.accesses()[before:])
    assert len(requests) == len(set(requests)) == NEW


def test_a_list_that_changes_again_during_a_kill_is_taken_up_afresh(fleet, config, stages):
    paths = OutputPaths.of(Path(config["path_to_output"]))
    assert stages.play(config, "grow", crash_at="grow:batch_moved") == KILLED
    assert stages.play(config, "verify") != 0  # a batch of a list that does not count yet
    write_rows(config, lists(fleet)[0])
    assert stages.play(config, "grow", crash_at="grow:taken_back") == KILLED
    before = len(fleet.accesses())
    assert stages.play(config, *STAGES) == 0
    assert not asked(fleet.accesses()[before:])
    assert len(pl.read_parquet(paths.ledger)) == len(lists(fleet)[0])


def test_rows_that_come_back_have_their_images_and_those_that_were_removed_are_fetched(
    fleet, config, stages
):
    first, _ = lists(fleet)
    paths = OutputPaths.of(Path(config["path_to_output"]))
    config["gone_rows"] = "remove"
    assert stages.play(config, *STAGES) == 0
    assert not {*first[:GONE]} & set(images_of(paths))
    before = len(fleet.accesses())
    write_rows(config, first)
    assert stages.play(config, *STAGES) == 0
    assert dict(pl.read_parquet(paths.ledger).group_by("state").len().iter_rows()) == {"ok": 18}
    assert len(asked(fleet.accesses()[before:])) == GONE + 1  # and the one whose URL is back


def test_another_list_is_refused(fleet, config, stages):
    paths = OutputPaths.of(Path(config["path_to_output"]))
    write_rows(config, [(f"other-{uuid}", url) for uuid, url in rows_of(fleet)])
    assert stages.play(config, "grow") == 1
    said = (paths.root / "said.txt").read_text()
    assert "was made from another list" in said
    assert "none of its 18 rows" in said
    write_rows(config, lists(fleet)[0])
    before = len(fleet.accesses())
    assert stages.play(config, *STAGES) == 0
    assert len(fleet.accesses()) == before


def test_the_same_command_over_a_list_that_grows_and_shrinks(start_fleet, new_workflow):
    fleet = start_fleet(*HOSTS)
    urls = sorted(fleet.urls())
    workflow = new_workflow(fleet, urls[:15])
    table = Path(workflow.config["path_to_input"])
    workflow.finish()
    assert len(image_requests(fleet)) == 15
    marks = {f: f.stat().st_mtime_ns for f in workflow.paths.schedules.rglob("*.parquet")}

    table.write_text("\n".join(urls[2:]) + "\n")
    said = workflow.finish()
    assert "the list has changed: 22 rows" in said
    assert workflow.states() == {"ok": 22}
    table.write_text("\n".join(urls[2:20]) + "\n")
    workflow.finish()
    workflow.finish()
    assert workflow.states() == {"ok": 18}
    asked_for = image_requests(fleet)
    assert len(asked_for) == len(asked_for.unique(["host", "path"])) == len(urls)
    assert all(file.stat().st_mtime_ns == mark for file, mark in marks.items())
