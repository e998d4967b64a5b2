"""Waves as Slurm jobs: judged by the ledger, by the servers' logs and by Slurm's own records."""

import json
import re
from pathlib import Path

import psutil
import pytest

from distributed_downloader.fleet.judge import exceeds, times_by
from distributed_downloader.fleet.plan import HostPlan
from tests.slurm.hosts import UNDER_WAY, UNFLUSHED_S, hosts
from tests.workflow.drill import wait_for

pytestmark = pytest.mark.timeout(600)


def test_a_plan_asks_for_samples_by_a_job_and_for_nothing_else(new_site):
    site = new_site(*hosts(2, 6), rate=3, nodes=2, profile={"samples": 1})
    assert "politeness alone costs" in site.workflow.finish("plan")
    assert [job.rule.startswith("rule_profile_servers") for job in site.jobs()] == [True]
    assert len(site.images_asked()) == 2
    assert not site.workflow.paths.wave(0).exists()


def test_a_wave_ends_before_its_time_and_the_next_goes_on_without_asking_twice(new_site):
    site = new_site(*hosts(4, 240), rate=3, nodes=2)
    site.workflow.runtime_min = 2  # a busy machine may need half of it to start
    run = site.workflow.start()
    site.wait_for_requests(50, run)
    watcher = psutil.Process(run.pid)
    before = watcher.cpu_times()
    site.wait_for_requests(300, run)  # at least 20 s later
    busy_s = sum(watcher.cpu_times()[:2]) - sum(before[:2])
    peak_mb = peak_memory_mb(run.pid)
    site.workflow.finish_of(run)

    assert busy_s < 1.4  # the login node does not wait busily, even when it is impatient
    assert peak_mb < 300
    site.assert_all_is_there()
    assert site.asked_again() == 0
    waves = site.waves()
    assert len(waves) >= 2
    assert {wave.state for wave in waves} == {"COMPLETED"}
    first = json.loads((site.workflow.paths.wave(0) / "progress.json").read_text())
    assert first["stopped"] == "out of time"
    assert 0 < first["left"] < 4 * 240


def peak_memory_mb(pid: int) -> float:
    """The most that the process ever held, as Linux has it."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


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

    site.assert_all_is_there()
    profile, *waves = site.jobs()
    assert profile.rule == "rule_profile_servers"
    assert [(wave.nodes, wave.cpus) for wave in waves] == [(4, 4), (1, 1)]
    assert [site.cluster.step(wave) for wave in waves] == [(4, 4), (1, 1)]
    logs = site.workflow.paths.logs / "download" / "0"
    assert len(list(logs.glob("rank-*.log"))) == 4
    for host, times in times_by(site.fleet.accesses()).items():
        assert not exceeds(times, 20, burst=1 + 2, windows=(1.0, 10.0)), host


def test_one_big_server_does_not_keep_the_nodes_of_thirty_small_ones(new_site):
    """The big one allows a fraction of what its plan hopes for, and that shows in the wave."""
    big = HostPlan(
        name="a.big.test",
        address="127.43.1.2",
        images=300,
        photos="tiny",
        rate=6.0,
        burst=3.0,
        retry_after_s=1.0,
    )
    site = new_site(big, *hosts(30, 20), rate=100, nodes=4, idle_nodes_s=10)
    said = site.workflow.finish()

    site.assert_all_is_there()
    waves = site.waves()
    assert waves[0].nodes == 3  # a fourth would have less to do than the big one
    assert {(wave.nodes, wave.cpus) for wave in waves[1:]} == {(1, 1)}
    first = json.loads((site.workflow.paths.wave(0) / "progress.json").read_text())
    assert first["stopped"] == "a smaller wave can go on with the rest"
    assert "node-hours" in said.lower()


def test_a_launcher_that_does_not_match_is_told_and_asks_for_nothing(new_site):
    site = new_site(*hosts(4, 100), rate=50, nodes=4)
    site.workflow.launcher = "srun --mpi=none"
    done = site.workflow.run("--retries", "0")

    assert done.returncode != 0
    assert len(site.images_asked()) == 0
    job = site.waves()[-1].id
    why = "4 ranks were asked for, but this one sees 1"
    assert f"error: Slurm job {job} ended as FAILED: {why}" in done.stdout


def test_an_account_that_slurm_does_not_know_is_told_in_its_own_words(new_site):
    site = new_site(*hosts(1, 5), rate=50, nodes=1, account="nobodys")
    done = site.workflow.run("--retries", "0")

    assert done.returncode != 0
    assert re.search(
        "^error: Slurm did not take the job: .*Invalid account", done.stdout, re.MULTILINE
    )
    assert not site.jobs()


def test_a_rank_that_is_killed_ends_the_others_and_the_wave_goes_on(new_site):
    site = new_site(*hosts(10, 150), rate=10, nodes=2)
    process = site.workflow.start()
    site.wait_for_requests(400, process)
    ranks = site.ranks()
    assert len(ranks) == 2
    ranks[1].kill()
    _, alive = psutil.wait_procs(ranks, timeout=20)
    assert not alive
    site.workflow.finish_of(process)

    site.assert_all_is_there()
    assert site.asked_again() <= 10 * (10 * UNFLUSHED_S + UNDER_WAY)
    wait_for("the end of all ranks", lambda: not site.ranks())


def test_a_rank_that_fails_ends_the_others_and_the_wave_is_tried_again(new_site):
    """Its writer lock is gone, so that no rank may store anything: one finds out first."""
    site = new_site(*hosts(10, 100), rate=10, nodes=2)
    process = site.workflow.start()
    site.wait_for_requests(200, process)
    ranks = site.ranks()
    assert len(ranks) == 2
    site.workflow.paths.writer_lock.unlink()
    _, alive = psutil.wait_procs(ranks, timeout=20)
    assert not alive
    said = site.workflow.finish_of(process)

    assert re.search("^tried again: Slurm job .*writer.lock was removed", said, re.MULTILINE)
    site.assert_all_is_there()
