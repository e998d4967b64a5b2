"""Waves, and runs, that end before their time: what was fetched is stored, and it goes on."""

import json
import re
import signal
from itertools import pairwise

import pytest

from tests.slurm.hosts import UNDER_WAY, hosts
from tests.slurm.lab import ACCOUNTING
from tests.workflow.drill import wait_for

pytestmark = pytest.mark.timeout(600)


def test_a_wave_whose_time_is_cut_stores_what_it_has_and_is_submitted_again(new_site):
    """It began with ten minutes, so it does not see the end coming."""
    site = new_site(*hosts(4, 500), rate=5, nodes=2)
    site.workflow.runtime_min = 10
    process = site.workflow.start()
    wave = site.wave_after(100, process)
    site.cluster.ask("scontrol", "update", f"JobId={wave.id}", "TimeLimit=1")
    site.workflow.finish_of(process)

    site.assert_all_is_there()
    assert site.asked_again() <= 4 * UNDER_WAY
    assert [wave.state for wave in site.waves()][:2] == ["TIMEOUT", "COMPLETED"]


def test_a_wave_that_loses_its_node_to_an_urgent_job_is_requeued_and_goes_on(new_site):
    site = new_site(*hosts(10, 100), rate=5, nodes=1, slurm_partition="spare")
    process = site.workflow.start()
    wave = site.wave_after(250, process)
    output = f"--output={site.workflow.folder / 'urgent.log'}"
    site.cluster.ask("sbatch", "--partition=urgent", "--exclusive", "--wrap=true", output)
    # it knows which start of its job it is: the lock of an earlier one would be a dead one's
    wait_for("the second start", lambda: site.writer() == (wave.id, 1), process)
    site.workflow.finish_of(process)

    site.assert_all_is_there()
    assert site.asked_again() <= 10 * UNDER_WAY
    waves = site.waves()
    assert waves[0].id == wave.id
    assert waves[0].restarts == 1
    assert waves[-1].state == "COMPLETED"


def test_a_cancelled_wave_stores_what_it_has_and_is_submitted_again(new_site, programs):
    """Also where the accounting hangs: it is not asked for what the queue knows."""
    site = new_site(*hosts(10, 150), rate=10, nodes=2)
    mark = site.workflow.folder / "asked"
    hangs = f"echo $0 >> {mark}; exec sleep 600"
    process = site.workflow.start(PATH=programs(**dict.fromkeys(ACCOUNTING, hangs)))
    wave = site.wave_after(400, process)
    assert wave.nodes == 2
    site.cluster.ask("scancel", wave.id)
    site.workflow.finish_of(process)

    site.assert_all_is_there()
    assert site.asked_again() <= 10 * UNDER_WAY
    assert not mark.exists()
    states = [wave.state for wave in site.waves()]
    assert states[0] == "CANCELLED"
    assert states[-1] == "COMPLETED"


def test_an_interrupted_run_cancels_its_wave_and_the_same_command_goes_on(new_site):
    site = new_site(*hosts(10, 100), rate=10, nodes=2)
    process = site.workflow.start()
    wave = site.wave_after(300, process)
    process.send_signal(signal.SIGINT)
    assert site.workflow.end_of(process).returncode != 0
    wait_for("the wave's end", lambda: site.waves()[0].state == "CANCELLED")
    asked = len(site.images_asked())
    assert asked < 10 * 100

    site.workflow.finish()
    site.assert_all_is_there()
    assert site.asked_again() <= 10 * UNDER_WAY
    assert site.waves()[0].id == wave.id


def test_a_run_that_was_killed_finds_its_job_and_takes_over(new_site):
    site = new_site(*hosts(10, 150), rate=10, nodes=2)
    process = site.workflow.start()
    orphan = site.wave_after(400, process)
    process.kill()
    process.communicate()
    said = site.workflow.finish()

    assert re.search(rf"An earlier run left wave 0 .*Slurm job {orphan.id}.* at work", said)
    site.assert_all_is_there()
    assert site.asked_again() <= 10 * UNDER_WAY
    wait_for("the orphan's end", lambda: site.waves()[0].state != "RUNNING")
    assert_never_two_waves_at_once(site)


def assert_never_two_waves_at_once(site) -> None:
    """By the moments that the waves themselves wrote down."""
    spans = []
    for file in sorted(site.workflow.paths.schedules.glob("[0-9]*/progress.json")):
        progress = json.loads(file.read_text())
        spans.append((progress["started"], progress["ended"]))
    spans.sort()
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
