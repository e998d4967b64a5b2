"""Each kind of process ended in mid-wave, again and again: the same command goes on.

Judged at the servers (what was asked twice, and how fast) and in the files (every row once).
"""

import os
import re
import signal
import time
from base64 import urlsafe_b64encode

import pytest

from distributed_downloader.fleet.judge import exceeds, times_by
from distributed_downloader.fleet.plan import HostPlan
from tests.workflow.conftest import CHECKOUT
from tests.workflow.drill import Run, wait_for

WORKS_S = 3.5  # each run is let work so long before it is killed

HOSTS = tuple(
    HostPlan(name=f"{name}.test", address=f"127.0.31.{number}", images=150, photos="tiny")
    for number, name in enumerate(("a.one", "b.two"), 1)
)
FEW = tuple(
    HostPlan(name=f"{name}.test", address=f"127.0.32.{number}", images=60, photos="tiny")
    for number, name in enumerate(("a.one", "b.two"), 1)
)


def kill_a_rank(run: Run) -> None:
    ranks = run.ranks()
    assert len(ranks) == 2
    ranks[-1].kill()


def kill_the_launcher(run: Run) -> None:
    (launcher,) = run.named("mpiexec")
    launcher.kill()


def kill_everything(run: Run) -> None:
    for process in run.processes():
        process.kill()


def terminate_the_group(run: Run) -> None:
    os.killpg(run.process.pid, signal.SIGTERM)


def interrupt_the_group(run: Run) -> None:
    os.killpg(run.process.pid, signal.SIGINT)


def terminate_the_workflow(run: Run) -> None:
    run.process.terminate()


def nobody_is_left(run: Run) -> bool:
    return not run.processes()


def test_a_killed_process_costs_the_last_seconds_only(new_drill):
    drill = new_drill(*HOSTS)
    for kill in (kill_a_rank, kill_the_launcher, kill_everything):
        run = drill.start_and_work(WORKS_S)
        drill.kills.add(time.monotonic())
        kill(run)
        said = run.end()
        assert run.process.returncode != 0, said
        wait_for(f"the end of all after {kill.__name__}", lambda run=run: nobody_is_left(run))
        if kill is not kill_everything:
            assert "Report" in said  # verify and the report have run
            assert drill.is_accounted_for()
    drill.finish()
    assert drill.asked_again()  # else nothing was judged
    drill.assert_whole()


@pytest.mark.parametrize("job", ["partition_urls", "profile_servers"])
def test_a_job_whose_end_nobody_saw_is_done_again_and_the_run_goes_on(new_drill, job):
    """A kill between a job's last write and Snakemake's note of it leaves a mark that forces it."""
    drill = new_drill(FEW[0])
    made = {"partition_urls": drill.paths.partitions, "profile_servers": drill.paths.profiles_table}
    mark = urlsafe_b64encode(str(made[job]).encode()).decode()
    marks = CHECKOUT / ".snakemake" / "incomplete"
    marks.mkdir(parents=True, exist_ok=True)
    (marks / mark).touch()
    try:
        said = drill.workflow.finish("--dry-run")
    finally:
        (marks / mark).unlink()
    (forced,) = re.findall(r"forced:\n\s+(.+)", said)
    assert forced == job
    for later in ("download_images", "verify_dataset", "write_report"):
        assert later in said


def test_a_run_that_is_asked_to_end_loses_nothing(new_drill):
    drill = new_drill(*FEW)
    for ask in (terminate_the_group, interrupt_the_group, terminate_the_workflow):
        run = drill.start_and_work(1.0)
        ask(run)
        said = run.end()
        assert run.process.returncode == 1, said
        assert nobody_is_left(run), ask.__name__
        assert not drill.parts()  # all of it consolidated
        assert drill.is_accounted_for()
        assert "run the same command again" in said
        assert "Which job failed" not in said
    drill.workflow.finish()
    drill.assert_whole()
    assert drill.asked_again() == []


def test_a_wave_whose_workflow_was_killed_is_ended_by_the_next_run(new_drill):
    """It would run on to its end: the ranks do not see that the workflow is gone."""
    quick = HostPlan(name="quick.one.test", address="127.0.33.1", images=40, photos="tiny")
    slow = HostPlan(name="slow.two.test", address="127.0.33.2", images=20, photos="tiny")
    drill = new_drill(quick, slow, politeness={"servers": {"slow.two.test": {"rate_limit": 1}}})
    run = drill.start_and_work(1.0)
    run.process.kill()
    run.process.wait()
    assert len(run.ranks()) == 2

    said = drill.workflow.finish()

    assert "An earlier run left wave 0" in said
    assert nobody_is_left(run)
    log = (drill.paths.logs / "download" / "0" / "rank-0.log").read_text()
    assert "a later run asked for it" in log
    drill.assert_whole()
    assert drill.asked_again() == []
    times = times_by(drill.fleet.accesses())["slow.two.test"]
    assert not exceeds(times, 1.0, burst=1.5, windows=(1.0, 10.0))
