"""Servers that take less than the config allows, and do not say so: the short form of the benchmark
(tests/benchmarks/bench_hidden_limits.py)."""

import polars as pl

from distributed_downloader.fleet.plan import HostPlan

ALLOWED = {"images.slow.test": 8, "images.middle.test": 11, "images.fast.test": 14}
SECONDS = 12  # what each would take at what it allows


def test_refusals_teach_and_nothing_is_lost(start_fleet, new_workflow):
    fleet = start_fleet(
        *(
            HostPlan(
                name=name,
                address=f"127.0.31.{number + 1}",
                images=rate * SECONDS,
                photos="tiny",
                rate=rate,
                burst=5,
            )
            for number, (name, rate) in enumerate(ALLOWED.items())
        )
    )
    workflow = new_workflow(
        fleet,
        fleet.urls(),
        downloader_parameters={"default_rate_limit": 50},
        politeness={"backoff": {"first_s": 2, "max_s": 60}},
        profile={"samples": 0},
    )
    workflow.finish()

    assert workflow.states() == {"ok": sum(ALLOWED.values()) * SECONDS}
    log = fleet.accesses().filter(pl.col("path") != "/robots.txt")
    for name in ALLOWED:
        mine = log.filter(pl.col("host") == name)
        refused = mine.filter(pl.col("status") == 429)
        assert 1 <= len(refused) <= 0.05 * len(mine), name  # it was met, and heeded
        lasted_s = mine["monotonic"].max() - mine["monotonic"].min()
        assert lasted_s <= 2 * SECONDS, name
    learned = pl.read_parquet(workflow.paths.wave(0) / "learned.parquet")
    rates = dict(learned.select("group", "rate").iter_rows())
    for name, allowed in ALLOWED.items():
        assert 0.5 * allowed <= rates[name.removeprefix("images.")] <= 1.5 * allowed, name
