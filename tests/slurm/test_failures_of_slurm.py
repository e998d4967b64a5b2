"""The cluster itself fails in mid-wave: a node, its controller, its accounting."""

import os
import shutil
from pathlib import Path

import pytest

from tests.slurm.hosts import UNDER_WAY, UNFLUSHED_S, hosts

pytestmark = pytest.mark.timeout(900)  # the wait for the cluster counts, too

ACCOUNTING = {"sacct", "sacctmgr", "sshare"}


@pytest.fixture
def programs_without_accounting(tmp_path):
    """A folder with links to all programs of this machine but those of Slurm's accounting."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for path in os.environ["PATH"].split(os.pathsep):
        for program in Path(path).glob("*"):
            link = folder / program.name
            if program.name not in ACCOUNTING and not link.is_symlink():
                link.symlink_to(program)
    assert shutil.which("squeue", path=str(folder))
    return str(folder)


def test_a_node_that_dies_costs_its_unflushed_seconds_and_the_wave_goes_on(new_site_alone):
    site = new_site_alone(*hosts(12, 200), rate=12, nodes=3)
    process = site.workflow.start()
    wave = site.wave_after(600, process)
    assert wave.nodes == 3
    site.cluster.do("kill9", wave.first_node)
    site.workflow.finish_of(process)

    site.assert_all_is_there()
    assert site.asked_again() <= 12 * (12 * UNFLUSHED_S + UNDER_WAY)


def test_a_controller_that_is_away_for_a_while_costs_nothing(
    new_site_alone, programs_without_accounting
):
    """On a cluster whose accounting nobody can ask, either."""
    site = new_site_alone(*hosts(10, 100), rate=5, nodes=2)
    process = site.workflow.start(PATH=programs_without_accounting)
    site.wait_for_requests(200, process)
    site.cluster.do("stop", "slurmctld")
    site.wait_for_requests(700, process)  # ten seconds and more of a run that cannot look
    site.cluster.do("start", "slurmctld")
    site.workflow.finish_of(process)

    site.assert_all_is_there()
    assert site.asked_again() == 0
    assert [(wave.state, wave.restarts) for wave in site.waves()] == [("COMPLETED", 0)]
