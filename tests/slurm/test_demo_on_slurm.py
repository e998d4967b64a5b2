"""The demo of `make run`, its tools included, by the jobs of a cluster."""

from dataclasses import replace

import pytest
import yaml

from distributed_downloader.fleet.demo import demo_csv, demo_plan
from distributed_downloader.fleet.plan import FleetPlan
from distributed_downloader.fleet.running import Fleet, running_fleet
from distributed_downloader.storage.dataset import Dataset
from tests.slurm.sites import SlurmWorkflow
from tests.workflow.conftest import CHECKOUT

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def demo_workflow(cluster, tmp_path):
    """The demo's config, with other folders and ports of its own."""
    with running_fleet(demo_plan(port=0)) as fleet:
        yield workflow_of(fleet, SlurmWorkflow(tmp_path, {}, cluster.variables))


def workflow_of(fleet: Fleet, workflow: SlurmWorkflow) -> SlurmWorkflow:
    plan: FleetPlan = replace(fleet.plan, port=fleet.port)
    table = workflow.folder / "urls.csv"
    table.write_text(demo_csv(plan))
    workflow.config = yaml.safe_load((CHECKOUT / "config" / "demo.yaml").read_text())
    workflow.config["path_to_input"] = str(table)
    workflow.config["path_to_output"] = str(workflow.paths.root)
    return workflow


def test_the_demo_and_its_tools_are_jobs_and_come_to_what_they_come_to_anywhere(
    cluster, demo_workflow
):
    demo_workflow.finish()

    states = demo_workflow.states()
    assert states["ok"] + states["removed"] == 291
    assert {name: rows for name, rows in states.items() if name not in ("ok", "removed")} == {
        "duplicate": 8,
        "failed_final": 31,
        "refused_by_policy": 12,
        "rejected": 6,
    }
    jobs = [job for job in cluster.jobs(demo_workflow.name) if job.state == "COMPLETED"]
    assert sum(job.is_wave for job in jobs) == 3
    assert sum(job.rule.startswith("rule_run_tool") for job in jobs) == 4
    with Dataset(demo_workflow.paths.tools / "resize") as small:
        assert len(small) == states["ok"]
        assert max(small.image(0).size) <= 112
