"""Politeness through the whole workflow, judged by the servers' own access logs."""

import re
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime

import polars as pl
import psutil

from distributed_downloader.durable import read_json
from distributed_downloader.fleet.judge import exceeds
from distributed_downloader.fleet.plan import HostPlan, Special, Trick
from distributed_downloader.fleet.running import Fleet
from tests.workflow.conftest import Workflow

PATIENCE_S = 90.0
REST_S = 3.0  # Retry-After
UNDER_WAY_S = 0.3  # what had been sent before an answer was heard arrives within this


def wait_until(is_so: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Look again and again; fail if the process ends first, or never gets there."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def kill_all(process: "subprocess.Popen[str]") -> None:
    """SIGKILL to Snakemake and all that it started: launcher, proxy, ranks."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.send_signal(signal.SIGKILL)
    process.communicate()


def images_at(fleet: Fleet, host: str) -> pl.DataFrame:
    log = fleet.accesses()
    return log.filter((pl.col("host") == host) & (pl.col("path") != "/robots.txt"))


def times(log: pl.DataFrame) -> list[float]:
    return log["monotonic"].to_list()


def test_robots_opt_outs_and_servers_that_fail(start_fleet, new_workflow):
    noai = Special(trick=Trick.OPT_OUT, share=1.0)
    fleet = start_fleet(
        HostPlan(name="plain.one.test", address="127.0.13.1", images=8, photos="tiny"),
        HostPlan(
            name="closed.two.test",
            address="127.0.13.2",
            images=4,
            photos="tiny",
            robots="User-agent: *\nDisallow: /photos/\n",
        ),
        HostPlan(
            name="noai.three.test", address="127.0.13.3", images=4, photos="tiny", specials=(noai,)
        ),
        HostPlan(
            name="slow.four.test",
            address="127.0.13.4",
            images=4,
            photos="tiny",
            robots="User-agent: *\nCrawl-delay: 1\n",
        ),
        HostPlan(
            name="broken.five.test", address="127.0.13.5", images=1, photos="tiny", fails_first=99
        ),
        HostPlan(
            name="strict.six.test",
            address="127.0.13.10",
            images=8,
            photos="tiny",
            rate=5.0,
            burst=2.0,
            retry_after_s=REST_S,
        ),
    )
    workflow = new_workflow(
        fleet,
        fleet.urls(),
        retries={"per_row": 2, "waves": 2},
        profile={"samples": 0},
        politeness={"backoff": {"first_s": 0.5, "max_s": REST_S}},
    )
    workflow.finish()
    assert workflow.states() == {"ok": 20, "refused_by_policy": 8, "failed_final": 1}

    errors = workflow.errors().sort("server").group_by("server", maintain_order=True)
    by_host = {str(server).partition(":")[0]: rows for (server,), rows in errors}
    closed, noai, broken = (
        by_host[host] for host in ("closed.two.test", "noai.three.test", "broken.five.test")
    )
    url = fleet.url("closed.two.test", "/robots.txt")
    assert set(closed["error_class"]) == {"robots_disallowed"}
    assert all(message.startswith(f"{url} disallows /photos/") for message in closed["error_msg"])
    assert set(noai["error_class"]) == {"opted_out"}
    assert set(noai["error_msg"]) == {"X-Robots-Tag: noai"}
    assert broken["error_code"].to_list() == [503]

    assert images_at(fleet, "closed.two.test").is_empty()
    assert len(images_at(fleet, "noai.three.test")) == 4
    crawled = times(images_at(fleet, "slow.four.test"))
    assert len(crawled) == 4
    assert not exceeds(crawled, rate=1.0, burst=1.1)
    robots = fleet.accesses().filter(pl.col("path") == "/robots.txt")
    assert robots.group_by("host").len()["len"].to_list() == [1] * 6
    assert_few_requests_in_a_wave(workflow, images_at(fleet, "broken.five.test"), most=2)
    assert_rests(fleet.accesses().filter(pl.col("host") == "strict.six.test"))


def assert_rests(log: pl.DataFrame) -> None:
    """After each 429 with Retry-After the host is left alone for so long, but for what is sent."""
    refused = times(log.filter(pl.col("status") == 429))
    assert refused
    for begin in refused:
        too_early = [at for at in times(log) if begin + UNDER_WAY_S < at < begin + REST_S]
        assert too_early == []


def assert_few_requests_in_a_wave(workflow: Workflow, log: pl.DataFrame, most: int) -> None:
    """`retries.per_row` requests for each URL in each wave at most, and every wave tried it."""
    waves = sorted(workflow.paths.schedules.glob("[0-9]*/progress.json"))
    assert len(waves) == 2
    counted = 0
    for wave in waves:
        progress = read_json(wave)
        of_wave = log.filter(pl.col("time").is_between(progress["started"], progress["ended"]))
        requests = of_wave.group_by("path").len()["len"].to_list()
        assert len(requests) == 1
        assert 1 <= requests[0] <= most
        counted += len(of_wave)
    assert counted == len(log)


def test_retry_after_holds_through_a_kill_and_a_restart(start_fleet, new_workflow):
    fleet = start_fleet(
        HostPlan(
            name="strict.one.test",
            address="127.0.13.6",
            images=16,
            photos="tiny",
            rate=5.0,
            burst=2.0,
            retry_after_s=600,
        )
    )
    workflow = new_workflow(
        fleet,
        fleet.urls(),
        profile={"samples": 0},
        politeness={"backoff": {"max_s": 3600}, "wait_s": 5},
    )

    def is_refused_and_written_down() -> bool:
        files = workflow.paths.schedules.glob("0/groups-*.json")
        return any(group["blocked_until"] for file in files for group in read_json(file).values())

    process = workflow.start()
    wait_until(is_refused_and_written_down, process)
    kill_all(process)
    asked = fleet.accesses()
    assert 429 in asked["status"]

    said = workflow.finish()
    assert len(fleet.accesses()) == len(asked)
    assert workflow.states() == {"pending": 16}
    until = datetime.fromtimestamp(times_of(asked, 429)[0] + 600, UTC)
    blocked = re.search(r"Blocked +16  one.test, until (\S+ \S+) UTC: 429 with Retry-After", said)
    assert blocked
    told = datetime.fromisoformat(f"{blocked[1]}+00:00")
    assert 0 <= (told - until).total_seconds() + 1 <= 0.1 * 600 + 2  # with jitter
    assert "run the same command again: it goes on with the 16 rows left" in said


def times_of(log: pl.DataFrame, status: int) -> list[float]:
    """Unix seconds."""
    return log.filter(pl.col("status") == status)["time"].to_list()


def test_a_server_that_is_ignored_in_mid_run_is_asked_no_more(start_fleet, new_workflow):
    fleet = start_fleet(
        HostPlan(name="stop.one.test", address="127.0.13.7", images=80, photos="tiny"),
        HostPlan(name="go.two.test", address="127.0.13.8", images=40, photos="tiny"),
    )
    workflow = new_workflow(
        fleet,
        fleet.urls(),
        profile={"samples": 0},
        downloader_parameters={"default_rate_limit": 4},
    )
    process = workflow.start()
    wait_until(lambda: len(images_at(fleet, "stop.one.test")) > 4, process)
    workflow.paths.ignored_table.write_text("server_name\nstop.one.test\n")
    written = time.monotonic()
    said, _ = process.communicate()
    assert process.returncode == 0, said

    asked = times(images_at(fleet, "stop.one.test"))
    assert max(asked) < written + 8  # the table is read again every 5 s
    assert workflow.states() == {"ok": 40 + len(asked), "ignored": 80 - len(asked)}
    assert max(times(images_at(fleet, "go.two.test"))) > max(asked)


def test_private_addresses_are_refused_without_a_connection(start_fleet, new_workflow):
    fleet = start_fleet(
        HostPlan(name="a.museum.test", address="127.0.13.9", images=3, photos="tiny")
    )
    workflow = new_workflow(
        fleet,
        fleet.urls(),
        politeness={"allow_private_addresses": False},
        downloader_parameters={"header": "User-Agent: my-project (mailto:me@my-university.edu)"},
    )
    said = workflow.finish()
    assert workflow.states() == {"refused_by_policy": 3}
    assert set(workflow.errors()["error_class"]) == {"private_address"}
    assert all("127.0.13.9" in message for message in workflow.errors()["error_msg"])
    assert "politeness.allow_private_addresses" in said
    assert fleet.accesses().is_empty()
