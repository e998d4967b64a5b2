"""Waves as Slurm jobs: judged by the ledger, by the servers' logs and by Slurm's own records."""

import json
import re
from itertools import pairwise

import psutil
import pytest

from distributed_downloader.fleet.judge import exceeds, times_by
from distributed_downloader.fleet.plan import HostPlan
from tests.workflow.drill import wait_for

pytestmark = pytest.mark.timeout(480)


def hosts(number: int, images: int) -> list[HostPlan]:
    """Hosts of as many groups, with small images."""
    return [
        HostPlan(name=f"a.site{n}.test", address=f"127.43.0.{n}", images=images, photos="tiny")
        for n in range(1, number + 1)
    ]


def assert_all_is_there(site, images: int) -> None:
    assert site.workflow.states() == {"ok": images}
    assert site.workflow.successes()["uuid"].n_unique() == images


def test_a_wave_spreads_over_four_nodes_and_the_next_asks_for_one_task(new_site):
    mending = HostPlan(
        name="late.mending.test",
        address="127.43.1.1",
        images=4,
        photos="tiny",
        fails_first=1,
        failure_status=500,
    )
    site = new_site(*hosts(8, 60), mending, rate=20, nodes=4, retries={"per_row": 1, "waves": 3})
    site.workflow.finish()

    assert_all_is_there(site, 8 * 60 + 4)
    profile, *waves = site.cluster.jobs()
    assert profile.rule == "rule_profile_servers"
    assert [(wave.nodes, wave.cpus, wave.state) for wave in waves] == [
        (4, 4, "COMPLETED"),
        (1, 1, "COMPLETED"),
    ]
    assert [site.cluster.step(wave) for wave in waves] == [(4, 4), (1, 1)]
    logs = site.workflow.paths.logs / "download" / "0"
    assert len(list(logs.glob("rank-*.log"))) == 4
    for host, times in times_by(site.fleet.accesses()).items():
        assert not exceeds(times, 20, burst=1 + 2, windows=(1.0, 10.0)), host


def test_a_wave_ends_before_its_time_and_the_next_goes_on_without_asking_twice(new_site):
    site = new_site(*hosts(4, 240), rate=6, nodes=2)
    site.workflow.runtime_min = 1
    site.workflow.finish()

    assert_all_is_there(site, 4 * 240)
    assert site.asked_again() == 0
    waves = site.cluster.waves()
    assert len(waves) >= 2
    assert {wave.state for wave in waves} == {"COMPLETED"}
    first = json.loads((site.workflow.paths.wave(0) / "progress.json").read_text())
    assert first["stopped"] == "out of time"
    assert 0 < first["left"] < 4 * 240


def test_a_cancelled_wave_stores_what_it_has_and_is_submitted_again(new_site):
    site = new_site(*hosts(10, 150), rate=10, nodes=2)
    process = site.workflow.start()
    wave = site.wait_for_requests(400, process)
    assert wave.nodes == 2
    site.cluster.ask("scancel", wave.id)
    done = site.workflow.end_of(process)

    assert done.returncode == 0, done.stdout
    assert_all_is_there(site, 1500)
    assert site.asked_again() <= 10 * 4  # what was under way: connections of ten groups
    states = [wave.state for wave in site.cluster.waves()]
    assert states[0] == "CANCELLED"
    assert states[-1] == "COMPLETED"


def test_a_rank_that_is_killed_ends_the_others_and_the_wave_goes_on(new_site):
    site = new_site(*hosts(10, 150), rate=10, nodes=2)
    process = site.workflow.start()
    site.wait_for_requests(400, process)
    ranks = site.ranks()
    assert len(ranks) == 2
    ranks[1].kill()
    _, alive = psutil.wait_procs(ranks, timeout=20)
    assert not alive
    done = site.workflow.end_of(process)

    assert done.returncode == 0, done.stdout
    assert_all_is_there(site, 1500)


def test_a_launcher_that_does_not_match_is_told_and_asks_for_nothing(new_site):
    site = new_site(*hosts(4, 100), rate=50, nodes=4)
    site.workflow.launcher = "srun --mpi=none"
    done = site.workflow.run("--retries", "0")

    assert done.returncode != 0
    assert len(site.images_asked()) == 0
    logs = "".join(file.read_text() for file in site.job_logs())
    assert "4 ranks were asked for, but this one sees 1" in logs


def test_a_node_that_dies_costs_its_unflushed_seconds_and_the_wave_goes_on(new_site):
    site = new_site(*hosts(12, 200), rate=12, nodes=3)
    process = site.workflow.start()
    wave = site.wait_for_requests(600, process)
    assert wave.nodes == 3
    site.cluster.do("kill9", wave.first_node)
    done = site.workflow.end_of(process)

    assert done.returncode == 0, done.stdout
    assert_all_is_there(site, 2400)
    unflushed_s = 1 + 0.5 + 1.5  # flush.seconds, the look at it, a slow disk
    assert site.asked_again() <= 12 * (12 * unflushed_s + 4)


def test_a_run_that_was_killed_finds_its_job_and_takes_over(new_site):
    site = new_site(*hosts(10, 150), rate=10, nodes=2)
    process = site.workflow.start()
    orphan = site.wait_for_requests(400, process)
    process.kill()
    process.communicate()
    said = site.workflow.finish()

    assert re.search(rf"An earlier run left wave 0 .*Slurm job {orphan.id}.* at work", said)
    assert_all_is_there(site, 1500)
    assert site.asked_again() <= 10 * 4
    wait_for("the orphan's end", lambda: site.cluster.waves()[0].state != "RUNNING")
    assert_never_two_waves_at_once(site)


def assert_never_two_waves_at_once(site) -> None:
    """By the moments that the waves themselves wrote down."""
    spans = []
    for file in sorted(site.workflow.paths.schedules.glob("[0-9]*/progress.json")):
        progress = json.loads(file.read_text())
        spans.append((progress["started"], progress["ended"]))
    spans.sort()
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
