"""The demo of `make run`, its tools included, by the jobs of a cluster."""

import pytest

from distributed_downloader.storage.dataset import Dataset
from tests.slurm.demo import demo_config, seconds_of
from tests.slurm.sites import SlurmWorkflow
from tests.workflow.conftest import Workflow

pytestmark = pytest.mark.timeout(900, func_only=True)  # the wait for the cluster does not count
AT_MOST = 2.5  # times what the same run takes without Slurm, on the same machine


def test_the_demo_and_its_tools_are_jobs_and_come_to_what_they_come_to_anywhere(
    cluster_alone, tmp_path
):
    with demo_config(tmp_path / "local") as config:
        local_s = seconds_of(Workflow(tmp_path / "local", config))
    with demo_config(tmp_path / "slurm") as config:
        on_slurm = SlurmWorkflow(tmp_path / "slurm", config, cluster_alone.variables)
        slurm_s = seconds_of(on_slurm)

    states = on_slurm.states()
    assert states["ok"] + states["removed"] == 291
    assert {name: rows for name, rows in states.items() if name not in ("ok", "removed")} == {
        "duplicate": 8,
        "failed_final": 31,
        "refused_by_policy": 12,
        "rejected": 6,
    }
    jobs = [job for job in cluster_alone.jobs(on_slurm.name) if job.state == "COMPLETED"]
    assert sum(job.is_wave for job in jobs) == 3
    assert sum(job.rule.startswith("rule_run_tool") for job in jobs) == 4
    assert (
        len(jobs) == 1 + 3 + 4
    )  # a small list is cut, and what tools do is picked, beside Snakemake
    with Dataset(on_slurm.paths.tools / "resize") as small:
        assert len(small) == states["ok"]
        assert max(small.image(0).size) <= 112
    assert slurm_s < AT_MOST * local_s, f"{local_s:.0f} s locally, {slurm_s:.0f} s on Slurm"
