"""Nothing that a user edits lightly downloads anything again; what is allowed anew is fetched."""

import polars as pl

from distributed_downloader.fleet.plan import HostPlan
from tests.workflow.test_whole_run import image_requests


def edit_profiles(workflow) -> None:
    table = pl.read_csv(workflow.paths.profiles_table)
    table = table.with_columns(rate_limit=pl.lit(20.0)).drop("latency_s")
    workflow.paths.profiles_table.write_text("\n" + table.write_csv().replace("\n", "\r\n"))


def test_a_list_that_is_gone_and_a_profile_that_is_lost_cost_nothing(start_fleet, new_workflow):
    fleet = start_fleet(HostPlan(name="a.one.test", address="127.0.10.23", images=4))
    workflow = new_workflow(fleet, fleet.urls())
    workflow.finish()
    assert workflow.states() == {"ok": 4}
    (workflow.folder / "urls.txt").unlink()
    workflow.finish()
    workflow.paths.profiles_table.unlink()
    said = workflow.finish()
    assert "4  of 4 rows" in said
    assert workflow.states() == {"ok": 4}
    assert len(image_requests(fleet)) == 4


def test_edits_between_two_runs(start_fleet, new_workflow):
    fleet = start_fleet(
        HostPlan(name="a.one.test", address="127.0.10.21", images=6, photos="small"),
        HostPlan(name="b.two.test", address="127.0.10.22", images=6, photos="small"),
    )
    workflow = new_workflow(fleet, fleet.urls())
    ignored = workflow.paths.ignored_table
    ignored.parent.mkdir(parents=True)
    ignored.write_text("server_name\ntwo.test\n")
    workflow.finish()
    assert workflow.states() == {"ok": 6, "ignored": 6}
    assert len(image_requests(fleet)) == 6

    workflow.paths.profiles_table.touch()
    edit_profiles(workflow)
    workflow.config["downloader_parameters"].update(default_rate_limit=20, max_nodes=2)
    moved = workflow.folder / "moved.txt"
    (workflow.folder / "urls.txt").rename(moved)
    workflow.config["path_to_input"] = str(moved)
    said = workflow.finish()
    assert len(image_requests(fleet)) == 6
    assert "6  of 12 rows" in said  # verify and the report run in every run

    ignored.write_text("server_name\n# two.test\n")
    workflow.finish()
    assert workflow.states() == {"ok": 12}
    asked = image_requests(fleet)
    assert len(asked) == len(asked.unique(["host", "path"])) == 12
