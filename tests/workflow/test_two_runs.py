"""Two runs at once: on one folder the second steps back, on two folders both finish."""

from dataclasses import replace

from distributed_downloader.fleet.plan import HostPlan
from tests.workflow.drill import wait_for

HOST = HostPlan(name="a.one.test", address="127.0.34.1", images=20, photos="tiny")


def test_the_second_run_on_a_folder_names_the_first_and_disturbs_nothing(new_drill):
    drill = new_drill(HOST)
    run = drill.start()
    wait_for("the run lock", drill.paths.run_lock.exists, run.process)

    assert f"process {run.process.pid}" in drill.workflow.finish("status")
    second = drill.workflow.run()

    assert second.returncode == 1
    (sentence,) = [line for line in second.stdout.splitlines() if line.startswith("error: ")]
    assert f"{drill.paths.root} is in use by the workflow (host " in sentence
    assert f"process {run.process.pid}" in sentence
    said = run.end()
    assert run.process.returncode == 0, said
    drill.assert_whole()
    assert drill.asked_again() == []
    assert not drill.paths.run_lock.exists()


def test_two_folders_are_filled_at_once_from_one_checkout(new_drill, tmp_path):
    one = new_drill(HOST)
    other = replace(one.workflow, folder=tmp_path / "other", config=dict(one.workflow.config))
    other.folder.mkdir()
    other.config["path_to_output"] = str(other.folder / "out")
    run = one.start()
    other.finish()
    said = run.end()
    assert run.process.returncode == 0, said
    for workflow in (one.workflow, other):
        assert workflow.states() == {"ok": 20}
