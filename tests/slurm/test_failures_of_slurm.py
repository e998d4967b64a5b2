"""The cluster itself fails in mid-wave: a node, its controller, its accounting."""

import shutil

import pytest

from tests.slurm.hosts import UNDER_WAY, UNFLUSHED_S, hosts
from tests.slurm.lab import ACCOUNTING

pytestmark = pytest.mark.timeout(600, func_only=True)  # the wait for the cluster does not count

FORGETFUL = "{squeue} \"$@\" | sed -E '/COMPLETED|FAILED|CANCELLED/d'"  # like MinJobAge=0
SLOW_S = 6


def test_a_node_that_dies_costs_its_unflushed_seconds_and_the_wave_goes_on(new_site_alone):
    site = new_site_alone(*hosts(12, 200), rate=12, nodes=3)
    process = site.workflow.start()
    wave = site.wave_after(600, process)
    assert wave.nodes == 3
    site.cluster.do("kill9", wave.first_node)
    site.workflow.finish_of(process)

    site.assert_all_is_there()
    assert site.asked_again() <= 12 * (12 * UNFLUSHED_S + UNDER_WAY)


def test_a_controller_that_is_away_for_a_while_costs_nothing(new_site_alone, programs):
    """On a cluster whose accounting nobody can ask, either."""
    path = programs(**dict.fromkeys(ACCOUNTING))
    assert shutil.which("squeue", path=path)
    assert not shutil.which("sacct", path=path)
    site = new_site_alone(*hosts(10, 100), rate=5, nodes=2)
    process = site.workflow.start(PATH=path)
    site.wait_for_requests(200, process)
    site.cluster.do("stop", "slurmctld")
    site.wait_for_requests(700, process)  # ten seconds and more of a run that cannot look
    site.cluster.do("start", "slurmctld")
    site.workflow.finish_of(process)

    site.assert_all_is_there()
    assert site.asked_again() == 0
    assert [(wave.state, wave.restarts) for wave in site.waves()] == [("COMPLETED", 0)]


def test_of_jobs_that_the_queue_forgets_at_once_a_slow_accounting_tells(new_site, programs):
    site = new_site(*hosts(10, 20), rate=10, nodes=2)
    slowly = f'sleep {SLOW_S}; exec {shutil.which("sacct")} "$@"'
    forgetful = FORGETFUL.format(squeue=shutil.which("squeue"))
    site.workflow.finish(PATH=programs(sacct=slowly, squeue=forgetful))

    site.assert_all_is_there()
    assert site.asked_again() == 0
    assert [(job.state, job.restarts) for job in site.jobs()] == [("COMPLETED", 0)] * 2
