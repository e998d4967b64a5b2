"""Servers that share a budget, through the whole workflow, judged by their own logs."""

import polars as pl

from distributed_downloader.fleet.judge import exceeds, times_by
from distributed_downloader.fleet.plan import HostPlan, Special, Trick

NODES = 122
WINDOWS_S = (0.5, 1.0, 2.0, 5.0)


def test_122_names_of_one_archive_share_one_budget(start_fleet, new_workflow):
    fleet = start_fleet(
        *(
            HostPlan(
                name=f"ia{number}.archive.test",
                address=f"127.0.32.{number % 4 + 1}",
                images=1,
                photos="tiny",
                group="archive",
            )
            for number in range(NODES)
        )
    )
    workflow = new_workflow(
        fleet,
        fleet.urls(),
        downloader_parameters={"default_rate_limit": 20, "batch_size": 100},
        profile={"samples": 0},
    )
    workflow.finish()
    assert workflow.states() == {"ok": NODES}
    log = fleet.accesses()
    assert log.filter(pl.col("path") == "/robots.txt")["host"].is_unique().all()
    (times,) = times_by(log, "group").values()
    assert len(times) == 2 * NODES
    assert not exceeds(times, 20, 1, windows=WINDOWS_S)


def test_names_at_one_address_share_one_budget_and_a_new_one_waits_for_the_next_plan(
    start_fleet, new_workflow
):
    """images.new.test is in no list: only a redirect leads to it, and to a known address."""
    away = Special(
        trick=Trick.REDIRECT, share=0.5, to="http://images.new.test:{port}/photos/{name}"
    )
    shared, apart = "127.0.33.1", "127.0.33.2"
    fleet = start_fleet(
        HostPlan(name="images.one.test", address=shared, images=20, photos="tiny"),
        HostPlan(name="images.two.test", address=shared, images=20, photos="tiny"),
        HostPlan(
            name="images.other.test", address=apart, images=20, photos="tiny", specials=(away,)
        ),
        HostPlan(name="images.new.test", address=shared, images=20, photos="tiny"),
    )
    workflow = new_workflow(
        fleet,
        fleet.urls("images.one.test", "images.two.test", "images.other.test"),
        downloader_parameters={"default_rate_limit": 6},
        politeness={"group_by": "address"},
        profile={"samples": 0},
    )
    workflow.finish()
    assert workflow.states() == {"ok": 60}
    first = pl.read_parquet(workflow.paths.wave(0) / "schedule.parquet")
    assert set(first["group"]) == {shared, apart}
    second = pl.read_parquet(workflow.paths.wave(1) / "schedule.parquet")
    assert set(second["group"]) == {shared}
    for address, times in times_by(fleet.accesses(), "address").items():
        assert not exceeds(times, 6, 1, windows=WINDOWS_S), address
