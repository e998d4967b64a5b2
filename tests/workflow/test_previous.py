"""Next month's list in a new folder: what the earlier folder has is copied, not fetched."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from distributed_downloader.errors import FolderError
from distributed_downloader.fleet.plan import FleetPlan
from distributed_downloader.fleet.running import Fleet, running_fleet
from distributed_downloader.lists.previous import check_previous
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.running.begin import settings_for
from distributed_downloader.storage.dataset import Dataset
from tests.workflow.stages import Stages
from tests.workflow.test_crash_points import KILLED, asked, config_of
from tests.workflow.test_growth import GONE, HOSTS, NEW, lists, write_rows
from tests.workflow.test_whole_run import image_requests

STAGES = ("partition", "profile", "waves", "verify")


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with running_fleet(FleetPlan(hosts=HOSTS)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def first_month(fleet: Fleet, stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first") / "out"
    config = config_of(fleet, folder)
    write_rows(config, lists(fleet)[0])
    assert stages.play(config, *STAGES) == 0
    return folder


@pytest.fixture
def config(fleet: Fleet, first_month: Path, tmp_path: Path) -> dict[str, Any]:
    """The second list, in a folder of its own."""
    config = {**config_of(fleet, tmp_path / "out"), "previous_output": str(first_month)}
    write_rows(config, lists(fleet)[1])
    return config


def by_url(folder: Path) -> dict[str, tuple[str, Any, str]]:
    """URL -> MD5 of the stored bytes, when it was fetched, its ETag."""
    with Dataset(folder) as dataset:
        return {
            record.row["identifier"]: (
                hashlib.md5(record.bytes).hexdigest(),
                record.row["fetched_at"],
                record.row["etag"],
            )
            for record in dataset
        }


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "crash_at",
    [
        "",
        "part:before_rename",
        "part:after_rename",
        "previous:copied",
        "consolidate:after_successes",
        "previous:buried",
    ],
)
def test_only_new_and_changed_rows_are_fetched(crash_at, fleet, first_month, config, stages):
    paths, before = OutputPaths.of(Path(config["path_to_output"])), len(fleet.accesses())
    untouched = contents(first_month)
    if crash_at:
        assert stages.play(config, *STAGES, crash_at=crash_at) == KILLED
        assert stages.play(config, *STAGES) == 0
    else:
        assert stages.play(config, *STAGES) == 0

    requests = asked(fleet.accesses()[before:])
    assert len(requests) == len(set(requests)) == NEW
    first, later = lists(fleet)
    ledger = pl.read_parquet(paths.ledger)
    assert dict(ledger.group_by("state").len().iter_rows()) == {"ok": len(later)}
    old, new = by_url(first_month), by_url(paths.root)
    kept = {url for _, url in first} & {url for _, url in later}
    assert {url: new[url] for url in kept} == {url: old[url] for url in kept}
    tombstones = pl.read_parquet(paths.tombstones)
    assert set(tombstones["uuid"]) == {uuid for uuid, _ in [*first[:GONE], first[17]]}
    assert sorted(tombstones["reason"]) == ["gone", "gone", "gone", "url_changed"]
    summary = json.loads(paths.summary.read_text())
    assert summary["copied"] == len(kept)
    assert contents(first_month) == untouched
    assert not list(paths.images.glob("*/*/part-*"))


def test_bytes_that_are_damaged_there_are_fetched(fleet, first_month, config, stages, tmp_path):
    """And all others are taken over, whatever has become of the rows that they were listed in."""
    paths, before = OutputPaths.of(Path(config["path_to_output"])), len(fleet.accesses())
    with Dataset(first_month) as dataset:
        kept = [each for each in dataset if each.uuid == lists(fleet)[0][GONE][0]]
        data, row = kept[0].bytes, kept[0].row
    batch = Batch(row["server_name"], row["partition_id"])
    shard = OutputPaths.of(first_month).batch_images(batch) / row["file"]
    listed = OutputPaths.of(first_month).batch_urls(batch)
    whole, rows = shard.read_bytes(), listed.read_bytes()
    assert data in whole
    try:
        shard.write_bytes(whole.replace(data, bytes(len(data))))
        listed.write_bytes(rows[:-100])
        assert stages.play(config, *STAGES) == 0
    finally:
        shard.write_bytes(whole)
        listed.write_bytes(rows)
    assert len(asked(fleet.accesses()[before:])) == NEW + 1
    assert by_url(paths.root).keys() == {url for _, url in lists(fleet)[1]}


def test_a_folder_that_cannot_be_taken_from_is_one_sentence(config, first_month, tmp_path):
    wrong = {**config, "previous_output": str(tmp_path / "nothing")}
    with pytest.raises(FolderError, match=r"holds no partitions.parquet.*earlier run"):
        check_previous(settings_for(wrong))
    other = {**config, "images": {"quality": 50}}
    with pytest.raises(FolderError, match=r"images.quality = 90, not 50.*leave previous_output"):
        check_previous(settings_for(other))


def test_the_command_takes_over_asks_again_and_goes_on(start_fleet, new_workflow):
    fleet = start_fleet(*HOSTS)
    urls = sorted(fleet.urls())
    first = new_workflow(fleet, urls[:10])
    first.finish()
    asked_before, missing = len(image_requests(fleet)), urls[0].rpartition("/")[0] + "/no.jpg"
    (first.folder / "next.txt").write_text("\n".join([*urls[1:12], missing]) + "\n")
    first.config = {
        **first.config,
        "path_to_input": str(first.folder / "next.txt"),
        "path_to_output": str(first.folder / "next"),
        "previous_output": str(first.folder / "out"),
    }
    said = first.finish()
    assert f"copied from {first.paths.root}: 9 images" in said
    assert "11  of 12 rows" in said
    assert len(image_requests(fleet)) == asked_before + 3

    first.config["retry_failed"] = ["not_found"]
    first.finish()
    first.finish()
    requests = image_requests(fleet)[asked_before + 3 :]
    assert requests["status"].to_list() == [404]
