"""Servers that take less than the config allows, and do not say so: the short form of the benchmark
(tests/benchmarks/bench_hidden_limits.py). A real nginx, where the machine has one, is the judge."""

import polars as pl

from tests.nginx_servers import Limited, limited_servers, nginx_program

ALLOWED = {"images.slow.test": 9, "images.middle.test": 13, "images.fast.test": 18}
SECONDS = 5  # what each would take at what it allows
REST_S = 1


def test_refusals_teach_and_nothing_is_lost(tmp_path, new_workflow):
    servers = [
        Limited(name, f"127.0.31.{number}", rate, burst=5, images=rate * SECONDS)
        for number, (name, rate) in enumerate(ALLOWED.items(), 1)
    ]
    with limited_servers(servers, tmp_path / "servers", nginx_program()) as running:
        workflow = new_workflow(
            running,
            running.urls(),
            downloader_parameters={"default_rate_limit": 50},
            politeness={"backoff": {"first_s": REST_S, "max_s": 60}},
            profile={"samples": 0},
        )
        workflow.finish()
        log = running.requests()

    assert workflow.states() == {"ok": sum(ALLOWED.values()) * SECONDS}
    for name, rate in ALLOWED.items():
        mine = log.filter(pl.col("host") == name)
        refused = mine.filter(pl.col("status") == 429)
        assert 1 <= len(refused) <= 0.2 * rate * SECONDS, name  # it was met, and heeded
        lasted_s = mine["time"].max() - mine["time"].min()
        assert lasted_s <= 2 * SECONDS + 2 * REST_S, name
    learned = pl.read_parquet(workflow.paths.wave(0) / "learned.parquet")
    rates = dict(learned.select("group", "rate").iter_rows())
    for name, allowed in ALLOWED.items():
        assert 0.4 * allowed <= rates[name.removeprefix("images.")] <= 1.5 * allowed, name
