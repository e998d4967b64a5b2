"""Tools in the workflow: after the download, in order, and again only for what is new."""

import pytest

from distributed_downloader.fleet.plan import HostPlan


@pytest.fixture
def hosts():
    return (
        HostPlan(name="a.museum.test", address="127.0.14.1", images=12, photos="tiny"),
        HostPlan(name="b.garden.test", address="127.0.14.2", images=12, photos="tiny"),
    )


def test_a_tool_runs_after_the_download_and_a_second_time_only_for_what_is_new(
    start_fleet, new_workflow, hosts
):
    fleet = start_fleet(*hosts)
    workflow = new_workflow(fleet, fleet.urls(), tools=["image_verification"])
    said = workflow.finish()
    assert "image_verification: 24 images done" in said
    assert "image_verification: nothing is new" in workflow.finish("image_verification")
