"""A kill between each pair of steps that write: what a rerun finds, keeps and asks for again.

The names are read from the library, so a new crash point is tried here without being listed.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest

from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.fleet.judge import exceeds, times_by
from distributed_downloader.fleet.plan import FleetPlan, HostPlan, Special, Trick
from distributed_downloader.fleet.running import Fleet, running_fleet
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.running.begin import settings_for
from distributed_downloader.storage.batch_files import read_states
from distributed_downloader.storage.dataset import Dataset
from distributed_downloader.storage.removal import remove_images
from tests.workflow.stages import SCRIPTS, Stages

OF_TOOLS = ("tool", "remove", "restore", "compact", "resize", "near")
SETTLED = ("ok", "failed_final")
KILLED = -9
RATE = 100.0
WAVES = 1

HOSTS = (
    HostPlan(
        name="a.one.test",
        address="127.0.30.1",
        images=20,
        photos="tiny",
        specials=(Special(trick=Trick.NOT_FOUND, share=0.2),),
    ),
    HostPlan(
        name="b.two.test",
        address="127.0.30.2",
        images=10,
        photos="tiny",
        specials=(Special(trick=Trick.SERVER_ERROR, share=0.2),),
    ),
)
STATES = {"failed_final": 6, "ok": 24}


def crash_points() -> list[str]:
    """Every name that the library may be cut at."""
    found = set()
    for file in (SCRIPTS / "distributed_downloader").rglob("*.py"):
        found |= set(re.findall(r'crash_point\("([\w:]+)"\)', file.read_text()))
    others = ("grow", "previous", *OF_TOOLS)  # test_growth.py, test_previous.py, test_tool_kills.py
    return sorted(name for name in found if name.partition(":")[0] not in others)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with running_fleet(FleetPlan(hosts=HOSTS)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def begun(fleet: Fleet, stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with samples stored, one of them removed to be fetched again."""
    folder = tmp_path_factory.mktemp("begun") / "out"
    config = config_of(fleet, folder)
    assert stages.play(config, "partition", "profile") == 0
    paths = OutputPaths.of(folder)
    batch, uuids = next((b, u) for b, u in stored(paths).items() if u)
    which = pl.DataFrame(
        {"uuid": uuids[:1], "tool": ["test"], "reason": ["again"], "refetch": [True]}
    )
    assert remove_images(batch, paths, which, allowed=lambda: None) == 1
    return folder


def config_of(fleet: Fleet, folder: Path) -> dict[str, Any]:
    table = folder.parent / "urls.txt"
    table.write_text("\n".join(fleet.urls()) + "\n")
    return {
        "path_to_input": str(table),
        "path_to_output": str(folder),
        "hosts": dict(fleet.hosts),
        "downloader_parameters": {
            "default_rate_limit": RATE,
            "workers_per_node": 1,
            "batch_size": 8,
        },
        "politeness": {
            "allow_private_addresses": True,
            "backoff": {"first_s": 0.2, "max_s": 1},
            "wait_s": 5,
        },
        "profile": {"samples": 2},
        "retries": {"per_row": 1, "waves": WAVES},
        "flush": {"seconds": 0.1},
    }


def batches(paths: OutputPaths) -> list[Batch]:
    return [Batch.from_folder(folder) for folder in paths.urls.glob("server_name=*/partition_id=*")]


def stored(paths: OutputPaths) -> dict[Batch, list[str]]:
    """The uuids that have an image now, in tables or in parts."""
    states = {batch: read_states(batch, paths, WAVES) for batch in batches(paths)}
    return {b: table.filter(state="ok")["uuid"].to_list() for b, table in states.items()}


def settled_urls(paths: OutputPaths) -> set[tuple[str, str]]:
    """Host and path of every row that has a final state on the disk now."""
    found = set()
    for batch in batches(paths):
        states = read_states(batch, paths, WAVES).filter(pl.col("state").is_in(SETTLED))
        urls = pl.read_parquet(paths.batch_urls(batch), hive_partitioning=False)
        for url in urls.join(states, on="uuid")["identifier"]:
            found.add((urlsplit(url).hostname, urlsplit(url).path))
    return found


def asked(accesses: pl.DataFrame) -> list[tuple[str, str]]:
    return list(accesses.filter(pl.col("path") != "/robots.txt").select("host", "path").iter_rows())


def assert_whole(paths: OutputPaths) -> None:
    """Every row has its state; every image is there once, decodes, and is what was stored."""
    ledger = pl.read_parquet(paths.ledger)
    assert dict(ledger.group_by("state").len().sort("state").iter_rows()) == STATES
    with Dataset(paths.root) as dataset:
        table = dataset.table().collect()
        assert len(dataset) == table["uuid"].n_unique() == STATES["ok"]
        for record in dataset:
            assert hashlib.md5(record.bytes).hexdigest() == record.row["hashsum_resized"]
            record.image.load()
    assert not list(paths.images.glob("*/*/part-*"))
    assert not list(paths.root.rglob(".tmp-*"))


def test_the_names_are_found():
    assert {name.partition(":")[0] for name in crash_points()} >= {
        "partition",
        "part",
        "consolidate",
        "wave",
    }


@pytest.mark.parametrize("name", crash_points())
def test_after_a_kill_there_a_rerun_loses_nothing_and_asks_for_no_settled_row(
    name, fleet, begun, stages, tmp_path
):
    folder = tmp_path / "out"
    config, paths = config_of(fleet, folder), OutputPaths.of(folder)
    all_stages = ["partition", "profile", "waves", "verify"]
    if not name.startswith("partition:"):
        shutil.copytree(begun, folder)
        all_stages = all_stages[2:]
    before = len(fleet.accesses())

    assert stages.play(config, *all_stages, crash_at=name) == KILLED

    at_crash = fleet.accesses()[before:]
    settled = settled_urls(paths)
    if not name.startswith("partition:"):
        assert sum(verify_dataset(settings_for(config))["states"].values()) == 30
    assert stages.play(config, *all_stages) == 0

    after = fleet.accesses()[before + len(at_crash) :]
    assert_whole(paths)
    assert not settled & set(asked(after))
    assert max(after.group_by("host", "path").len()["len"], default=0) <= WAVES
    for host, times in times_by(fleet.accesses()[before:]).items():
        assert not exceeds(times, RATE, burst=1 + 0.1 * RATE, windows=(1.0, 10.0)), host


@pytest.mark.parametrize("name", ["part:after_rename", "consolidate:after_successes"])
def test_samples_that_were_stored_before_a_kill_are_not_asked_for_again(
    name, fleet, stages, tmp_path
):
    config, paths = config_of(fleet, tmp_path / "out"), OutputPaths.of(tmp_path / "out")
    assert stages.play(config, "partition", "profile", crash_at=name) == KILLED
    settled, before = settled_urls(paths), len(fleet.accesses())
    assert settled
    assert stages.play(config, "profile", "waves", "verify") == 0
    assert_whole(paths)
    assert not settled & set(asked(fleet.accesses()[before:]))


def test_without_a_kill_every_url_is_asked_for_as_often_as_it_must_be(fleet, stages, tmp_path):
    folder = tmp_path / "out"
    before = len(fleet.accesses())
    assert stages.play(config_of(fleet, folder), "partition", "profile", "waves", "verify") == 0
    assert_whole(OutputPaths.of(folder))
    requests = asked(fleet.accesses()[before:])
    assert len(set(requests)) == 30
    assert len(requests) <= 30 + 2  # a sample that failed may have been asked for before
