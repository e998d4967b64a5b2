"""Nobody asks a public server without saying who they are."""

from distributed_downloader.fleet.plan import HostPlan


def test_a_public_server_among_own_ones_ends_an_anonymous_run_before_its_first_request(
    start_fleet, new_workflow
):
    fleet = start_fleet(HostPlan(name="images.own.test", address="127.0.34.1", images=3))
    workflow = new_workflow(fleet, [*fleet.urls(), "http://museum.test/1.jpg"])
    workflow.config["hosts"]["museum.test"] = "192.88.100.1"
    done = workflow.run()
    assert done.returncode == 1
    assert "names no contact, so the owner of museum.test (at 192.88.100.1" in done.stdout
    assert done.stdout.count("error: ") == 1
    assert fleet.accesses().is_empty()
