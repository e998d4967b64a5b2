"""Finished rows that are asked for again because a person wants it: judged at the servers."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest

from distributed_downloader.fleet.plan import FleetPlan, HostPlan, Special, Trick
from distributed_downloader.fleet.running import Fleet, running_fleet
from distributed_downloader.paths import OutputPaths
from distributed_downloader.storage.dataset import Dataset
from tests.workflow.stages import Stages
from tests.workflow.test_crash_points import KILLED, asked, config_of

OLD = timedelta(days=40)
HOSTS = (
    HostPlan(
        name="a.one.test",
        address="127.0.32.1",
        images=12,
        photos="tiny",
        specials=(Special(trick=Trick.NOT_FOUND, share=0.25),),
    ),
    HostPlan(
        name="b.two.test",
        address="127.0.32.2",
        images=6,
        photos="tiny",
        specials=(Special(trick=Trick.SERVER_ERROR, share=0.5),),
    ),
)
RUN = ("waves", "verify")


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with running_fleet(FleetPlan(hosts=HOSTS)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def done(fleet: Fleet, stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 12 images, 3 rows not found and 3 that met server errors, all final."""
    folder = tmp_path_factory.mktemp("done") / "out"
    assert stages.play(config_of(fleet, folder), "partition", "profile", *RUN) == 0
    return folder


@pytest.fixture
def config(fleet: Fleet, done: Path, tmp_path: Path) -> dict[str, Any]:
    shutil.copytree(done, tmp_path / "out")
    return config_of(fleet, tmp_path / "out")


def paths_of(config: dict[str, Any]) -> OutputPaths:
    return OutputPaths.of(Path(config["path_to_output"]))


def states(config: dict[str, Any]) -> dict[str, int]:
    ledger = pl.read_parquet(paths_of(config).ledger)
    return dict(ledger.group_by("state").len().sort("state").iter_rows())


def edit_images(config: dict[str, Any], **columns: pl.Expr) -> None:
    """Rewrite these columns of all tables of images, and let waves look at them."""
    for file in paths_of(config).images.glob("*/*/successes.parquet"):
        metadata = {k: v for k, v in pl.read_parquet_metadata(file).items() if "schema" not in k}
        kept = {key: metadata[key] for key in ("absorbed", "next_shard")}
        table = pl.read_parquet(file, hive_partitioning=False).with_columns(**columns)
        table.write_parquet(file, metadata=kept)
        mark = json.loads((file.parent / "completed").read_text())
        seen = table["fetched_at"].min().timestamp()
        (file.parent / "completed").write_text(json.dumps({**mark, "seen": seen}))


def make_old(config: dict[str, Any], **columns: pl.Expr) -> None:
    edit_images(config, fetched_at=pl.col("fetched_at") - OLD, **columns)
    config["revalidate"] = {"older_than_days": 30}


def images_of(config: dict[str, Any]) -> pl.DataFrame:
    with Dataset(paths_of(config).root) as dataset:
        for record in dataset:
            assert hashlib.md5(record.bytes).hexdigest() == record.row["hashsum_resized"]
        return dataset.table().collect().sort("uuid")


def requests_of(fleet: Fleet, before: int) -> pl.DataFrame:
    return fleet.accesses()[before:].filter(pl.col("path") != "/robots.txt")


def go_on(fleet: Fleet, config: dict[str, Any], stages: Stages) -> pl.DataFrame:
    """Run to the end; its requests, each for an image that nobody had asked about before."""
    before, images = len(fleet.accesses()), images_of(config)
    assert len(images) == 12
    settled = images.filter(pl.col("asked_wave").is_not_null())["identifier"]
    assert stages.play(config, *RUN) == 0
    log = requests_of(fleet, before)
    assert not set(asked(log)) & {(urlsplit(u).hostname, urlsplit(u).path) for u in settled}
    assert len(log) == len(log.unique(["host", "path"])) == 12 - len(settled)
    return log


def test_chosen_failures_are_asked_for_again_once(fleet, config, stages):
    config["retry_failed"] = ["not_found"]
    before = len(fleet.accesses())
    assert stages.play(config, *RUN, crash_at="part:after_rename") == KILLED
    assert stages.play(config, *RUN) == 0
    requests = asked(fleet.accesses()[before:])
    assert len(requests) == len(set(requests)) == 3
    assert {host for host, _ in requests} == {"a.one.test"}
    assert states(config) == {"failed_final": 6, "ok": 12}
    before = len(fleet.accesses())
    assert stages.play(config, *RUN) == 0
    assert len(fleet.accesses()) == before

    config["retry_failed"] = ["not_found", "server_error"]
    assert stages.play(config, *RUN) == 0
    assert len(asked(fleet.accesses()[before:])) == 6
    assert states(config) == {"failed_final": 6, "ok": 12}


def test_old_images_are_asked_for_with_conditions_and_a_304_keeps_them(fleet, config, stages):
    make_old(config)
    images, files = images_of(config), sorted(paths_of(config).images.rglob("*.h5"))
    before = len(fleet.accesses())
    assert stages.play(config, *RUN, crash_at="part:after_rename") == KILLED
    log = go_on(fleet, config, stages)
    assert {*log["status"], *requests_of(fleet, before)["status"]} == {304}
    assert log["bytes"].sum() == 0
    after = images_of(config)
    assert after["validated_at"].is_not_null().all()
    same = ["uuid", "hashsum_original", "hashsum_resized", "file", "index", "fetched_at", "etag"]
    assert after.select(same).equals(images.select(same))
    assert sorted(paths_of(config).images.rglob("*.h5")) == files
    summary = json.loads(paths_of(config).summary.read_text())
    assert summary["unchanged"] == 12
    assert states(config) == {"failed_final": 6, "ok": 12}
    before = len(fleet.accesses())
    assert stages.play(config, *RUN) == 0
    assert len(asked(fleet.accesses()[before:])) == 0


@pytest.mark.parametrize(
    "crash_at", ["", "part:after_rename", "consolidate:after_shard", "consolidate:after_successes"]
)
def test_an_image_that_has_changed_replaces_the_old_one(crash_at, fleet, config, stages):
    make_old(config, etag=pl.lit('"of before"'), hashsum_original=pl.lit("of before"))
    images, before = images_of(config), len(fleet.accesses())
    if crash_at:
        assert stages.play(config, *RUN, crash_at=crash_at) == KILLED
    go_on(fleet, config, stages)
    assert set(requests_of(fleet, before)["status"]) == {200}
    after = images_of(config)
    assert after["uuid"].equals(images["uuid"])
    assert (after["fetched_at"] > images["fetched_at"].max()).all()
    assert not (after["hashsum_original"] == "of before").any()
    assert not list(paths_of(config).images.glob("*/*/part-*"))
    assert states(config) == {"failed_final": 6, "ok": 12}


def test_bytes_that_are_stored_already_are_not_stored_again(fleet, config, stages):
    make_old(config, etag=pl.lit(None, pl.String), last_modified=pl.lit(None, pl.String))
    files = sorted(paths_of(config).images.rglob("*.h5"))
    assert stages.play(config, *RUN) == 0
    after = images_of(config)
    assert after["validated_at"].is_not_null().all()
    assert after["etag"].is_not_null().all()
    assert sorted(paths_of(config).images.rglob("*.h5")) == files


def test_an_error_keeps_the_old_image_and_is_met_once_in_a_run(fleet, config, stages):
    paths = paths_of(config)
    gone = "/no-such.jpg"
    for file in paths.urls.glob("*/*/urls.parquet"):
        table = pl.read_parquet(file, hive_partitioning=False)
        moved = pl.col("identifier").str.replace(r"/[^/]*$", gone)
        table.with_columns(identifier=moved).write_parquet(file)
    make_old(config)
    images, before = images_of(config), len(fleet.accesses())
    assert stages.play(config, *RUN) == 0
    log = requests_of(fleet, before)
    assert set(log["status"]) == {404}
    assert len(log) == 12
    after = images_of(config)
    same = ["uuid", "hashsum_resized", "file", "index", "fetched_at", "validated_at"]
    assert after.select(same).equals(images.select(same))
    assert after["asked_wave"].is_not_null().all()
    assert states(config) == {"failed_final": 6, "ok": 12}
