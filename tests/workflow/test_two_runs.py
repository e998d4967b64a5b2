"""Two runs at once: on one folder the second steps back, on two folders both finish."""

from dataclasses import replace

from distributed_downloader.fleet.plan import HostPlan

HOST = HostPlan(name="a.one.test", address="127.0.34.1", images=20, photos="tiny")


def test_of_two_runs_that_start_at_once_one_works_and_the_other_names_it(new_drill):
    drill = new_drill(HOST)
    runs = [drill.start(), drill.start()]
    said = {run.end(): run for run in runs}
    codes = sorted(run.process.returncode for run in runs)
    assert codes == [0, 1], list(said)

    (winner,) = (run for run in runs if run.process.returncode == 0)
    (words,) = (words for words, run in said.items() if run is not winner)
    (sentence,) = [line for line in words.splitlines() if line.startswith("error: ")]
    assert f"{drill.paths.root} is in use by the workflow (host " in sentence
    assert f"process {winner.process.pid}" in sentence
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
