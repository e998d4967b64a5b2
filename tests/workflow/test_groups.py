"""Servers that share a budget, through the whole workflow, judged by their own logs."""

import polars as pl

from distributed_downloader.courtesy.audit import over_budget
from distributed_downloader.courtesy.ownership import owner_of_unplanned
from distributed_downloader.fleet.judge import exceeds, times_by
from distributed_downloader.fleet.plan import HostPlan, Special, Trick

NODES = 122
WINDOWS_S = (0.5, 1.0, 2.0, 5.0)


def assert_polite(workflow, times, rate: float) -> None:
    """By the clocks of ranks, and by the servers' logs: no window has more than one over."""
    learned = pl.read_parquet(workflow.paths.schedules / "*" / "learned.parquet")
    assert learned["peak_10s"].max() > 1
    assert not [said for row in learned.iter_rows(named=True) if (said := over_budget(row))]
    assert not exceeds(times, rate, burst=1, windows=WINDOWS_S)


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
        downloader_parameters={"default_rate_limit": 10, "batch_size": 100},
        profile={"samples": 0},
    )
    workflow.finish()
    assert workflow.states() == {"ok": NODES}
    log = fleet.accesses()
    assert log.filter(pl.col("path") == "/robots.txt")["host"].is_unique().all()
    (times,) = times_by(log, "group").values()
    assert len(times) == 2 * NODES
    assert_polite(workflow, times, rate=10)  # so slow that a busy wire shows nothing


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
    for times in times_by(fleet.accesses(), "address").values():
        assert_polite(workflow, times, rate=6)


def test_a_robots_txt_that_another_rank_may_ask_is_read_in_the_next_wave_and_obeyed(
    start_fleet, new_workflow
):
    """rules.test is in no list; in the first wave it belongs to the rank of the others."""
    assert owner_of_unplanned("rules.test", 2) == 1
    away = Special(
        trick=Trick.REDIRECT, paths=("/robots.txt",), to="http://rules.test:{port}/robots.txt"
    )
    fleet = start_fleet(
        HostPlan(
            name="moved.test", address="127.0.34.1", images=6, photos="tiny", specials=(away,)
        ),
        HostPlan(name="other.test", address="127.0.34.2", images=5, photos="tiny"),
        HostPlan(
            name="rules.test", address="127.0.34.3", images=0, robots="User-agent: *\nDisallow: /\n"
        ),
    )
    workflow = new_workflow(
        fleet, fleet.urls("moved.test", "other.test"), profile={"samples": 0}, retries={"waves": 2}
    )
    workflow.finish()
    assert workflow.states() == {"ok": 5, "refused_by_policy": 6}
    assert set(workflow.errors()["error_class"]) == {"robots_disallowed"}
    asked = fleet.accesses().filter(pl.col("host") != "other.test").sort("monotonic")
    assert set(asked["path"]) == {"/robots.txt"}
    assert asked["host"].to_list() == ["moved.test", "moved.test", "rules.test"]  # in two waves
