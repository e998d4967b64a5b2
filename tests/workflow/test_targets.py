"""Targets that only look: how long it will take, how far it is."""

from distributed_downloader.fleet.plan import HostPlan


def test_plan_and_status_fetch_nothing_but_samples(start_fleet, new_workflow):
    fleet = start_fleet(
        HostPlan(name="a.one.test", address="127.0.35.1", images=6, photos="tiny"),
        HostPlan(name="b.two.test", address="127.0.35.2", images=6, photos="tiny"),
    )
    workflow = new_workflow(fleet, fleet.urls())

    said = workflow.finish("status")
    assert "not there yet" in said
    assert not workflow.paths.root.exists()
    assert len(fleet.accesses()) == 0

    said = workflow.finish("plan")
    assert "politeness alone costs" in said
    paths = fleet.accesses()["path"].to_list()
    assert sorted(path == "/robots.txt" for path in paths) == [False, False, True, True]
    assert not workflow.paths.wave(0).exists()

    workflow.finish()
    assert workflow.states() == {"ok": 12}
    asked, before = len(fleet.accesses()), sorted(workflow.paths.root.rglob("*"))
    said = workflow.finish("status")
    assert "At work       nobody" in said
    assert "12  of 12 rows" in said
    assert sorted(workflow.paths.root.rglob("*")) == before
    assert len(fleet.accesses()) == asked
