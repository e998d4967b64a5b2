"""A whole run: every stage, several batches and waves, and what a second run asks for."""

import json
import os

import polars as pl

from distributed_downloader.durable import read_json
from distributed_downloader.fleet.judge import exceeds, times_by
from distributed_downloader.fleet.plan import HostPlan, Special, Trick

RATE = 50  # as conftest.QUICK


def assert_polite(fleet, rate: float) -> None:
    """No host was asked for more, by its own log; a busy machine's wire may bunch a few."""
    for host, times in times_by(fleet.accesses()).items():
        assert not exceeds(times, rate, burst=1 + 0.1 * rate, windows=(1.0, 10.0)), host


def image_requests(fleet) -> pl.DataFrame:
    return fleet.accesses().filter(pl.col("path") != "/robots.txt")


def test_a_run_accounts_for_every_row_and_a_second_run_asks_for_nothing(start_fleet, new_workflow):
    missing = Special(trick=Trick.NOT_FOUND, share=0.2)
    fleet = start_fleet(
        HostPlan(name="a.museum.test", address="127.0.10.1", images=20, photos="small"),
        HostPlan(name="b.herbarium.test", address="127.0.10.2", images=20, specials=(missing,)),
    )
    urls = fleet.urls()
    workflow = new_workflow(fleet, [*urls, urls[0], "http://exa mple/", "no-url"])
    padding = "x" * 30_000  # over 1 MB: smaller inputs are compared by checksum
    table = workflow.folder / "urls.csv"
    rows = [f"{url},{number},{padding}" for number, url in enumerate([*urls, urls[0], "no-url"])]
    table.write_text("\n".join(["identifier,source_id,note", *rows]) + "\n")
    workflow.config["path_to_input"] = str(table)
    assert table.stat().st_size > 1_000_000

    said = workflow.finish()

    states = workflow.states()
    assert states == {"ok": 36, "failed_final": 4, "duplicate": 1, "rejected": 1}
    assert "36  of 42 rows" in " ".join(said.split("\n"))
    assert len(list(workflow.paths.urls.glob("*/partition_id=*"))) == 6
    assert workflow.errors()["error_code"].to_list() == [404] * 4
    assert workflow.successes()["uuid"].n_unique() == 36
    asked = image_requests(fleet)
    assert len(asked) == len(asked.unique(["host", "path"])) == 40
    assert_polite(fleet, RATE)
    groups = read_json(workflow.paths.summary)["groups"]
    assert sum(group["requests"] for group in groups) == len(fleet.accesses())

    before = len(fleet.accesses())
    os.utime(table)
    bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    workflow.variables = bare
    workflow.finish()
    assert len(fleet.accesses()) == before
    assert workflow.states() == states


def test_a_server_that_recovers_is_asked_again_in_the_second_wave(start_fleet, new_workflow):
    fleet = start_fleet(
        HostPlan(name="up.one.test", address="127.0.10.3", images=6, photos="small"),
        HostPlan(
            name="late.two.test",
            address="127.0.10.4",
            images=6,
            photos="small",
            recovers_after_requests=4,
            failure_status=500,
        ),
    )
    workflow = new_workflow(
        fleet, fleet.urls(), retries={"per_row": 1, "waves": 3}, profile={"samples": 0}
    )
    workflow.finish()
    assert workflow.states() == {"ok": 12}
    waves = sorted(workflow.paths.schedules.glob("[0-9]*/progress.json"))
    assert len(waves) >= 2
    assert json.loads(waves[0].read_text())["left"] > 0


def test_a_redirect_to_another_group_is_followed_by_the_rank_that_owns_it(
    start_fleet, new_workflow
):
    away = Special(trick=Trick.REDIRECT, share=1.0, to="http://cdn.two.test:{port}/photos/{name}")
    fleet = start_fleet(
        HostPlan(
            name="old.one.test", address="127.0.10.5", images=8, photos="small", specials=(away,)
        ),
        HostPlan(name="cdn.two.test", address="127.0.10.6", images=8, photos="small"),
        HostPlan(name="more.three.test", address="127.0.10.7", images=8, photos="small"),
    )
    urls = fleet.urls("old.one.test", "more.three.test")
    workflow = new_workflow(fleet, urls, downloader_parameters={"default_rate_limit": 10})
    workflow.finish()
    assert workflow.states() == {"ok": 16}
    final = workflow.successes().filter(pl.col("server").str.starts_with("old."))["final_url"]
    assert all("cdn.two.test" in url for url in final)
    assert_polite(fleet, 10)
