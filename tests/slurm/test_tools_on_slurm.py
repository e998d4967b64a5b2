"""Tools as jobs of a cluster: one that is cancelled is submitted again, and goes on."""

import pytest

from tests.slurm.hosts import hosts
from tests.workflow.drill import wait_for
from tests.workflow.own_tools import PATIENT, write_tool

pytestmark = pytest.mark.timeout(600)


def test_a_cancelled_tool_of_ones_own_goes_on_with_what_it_had_not_done(new_site, tmp_path):
    own = tmp_path / "my_tools"
    own.mkdir()
    write_tool(own, "patient", PATIENT)
    parameters = {"folder": str(own), "workers_per_node": 1}
    site = new_site(*hosts(3, 4), rate=10, nodes=1, tools_parameters=parameters)
    calls = site.workflow.paths.tools / "patient" / "calls"

    def done() -> list[str]:
        return calls.read_text().splitlines() if calls.exists() else []

    process = site.workflow.start("patient")
    wait_for("the tool's second partition", lambda: len(done()) == 2, process)
    tool = site.jobs()[-1]
    assert tool.rule.startswith("rule_run_tool")
    site.cluster.ask("scancel", tool.id)
    site.workflow.finish_of(process)

    assert len(done()) == 4
    assert len(set(done())) == 3
    assert done()[1] == done()[2], "only the partition under way was done again"
    tools = [job for job in site.jobs() if job.rule.startswith("rule_run_tool")]
    assert [job.state for job in tools] == ["CANCELLED", "COMPLETED"]
