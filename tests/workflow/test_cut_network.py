"""A network that is cut: nobody is to blame, nothing is lost, and the run comes to an end."""

from contextlib import ExitStack

from distributed_downloader.durable import read_json
from distributed_downloader.fleet.judge import read_log
from distributed_downloader.fleet.plan import FleetPlan, HostPlan
from distributed_downloader.fleet.running import running_fleet
from tests.workflow.drill import wait_for

HOSTS = tuple(
    HostPlan(name=f"images.{name}.test", address=f"127.0.42.{number}", images=20, photos="tiny")
    for number, name in enumerate(("one", "two"), 1)
)
DEAD = HostPlan(name="images.dead.test", address="127.0.42.9", images=2, listens=False)


def test_a_cut_network_costs_no_row_its_wave_and_the_same_command_goes_on(tmp_path, new_workflow):
    log = tmp_path / "access.jsonl"
    with ExitStack() as first:
        fleet = first.enter_context(running_fleet(FleetPlan(hosts=(*HOSTS, DEAD)), log))
        workflow = new_workflow(
            fleet,
            fleet.urls(),
            downloader_parameters={"default_rate_limit": 4, "workers_per_node": 1},
            profile={"samples": 0},
            politeness={"backoff": {"first_s": 1}, "wait_s": 3},
            retries={"per_row": 2, "waves": 1},
        )
        process = workflow.start()
        wait_for("requests", lambda: len(read_log(log)) > 12, process)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "no server answers, as if the network were cut" in said
    assert "run the same command again" in said
    states = workflow.states()
    assert set(states) <= {"ok", "pending", "failed_final"}
    assert states["pending"] > 20
    assert states.get("failed_final", 0) <= DEAD.images  # others answered while it did not
    assert read_json(workflow.paths.left)["cut_off"]

    with running_fleet(FleetPlan(hosts=(*HOSTS, DEAD), port=fleet.port), log):
        workflow.finish()
    assert workflow.states() == {"ok": 40, "failed_final": 2}
    assert set(workflow.errors()["error_class"]) <= {"connect", "server_down"}
