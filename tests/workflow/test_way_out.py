"""Machines with no way out: through a proxy all is fetched, without one nothing is lost."""

import json

from distributed_downloader.fleet.plan import HostPlan
from tests.forward_proxy import ForwardProxy, forwarding_beside


def test_a_run_behind_a_proxy_fetches_all_through_it_and_says_when_it_is_gone(
    start_fleet, new_workflow, tmp_path
):
    hosts = [
        HostPlan(name=f"a.far{n}.test", address=f"127.0.94.{n}", images=6, photos="tiny")
        for n in (1, 2, 3)
    ]
    fleet = start_fleet(*hosts)
    workflow = new_workflow(
        fleet, fleet.urls(), hosts={}, politeness={"allow_private_addresses": True}
    )
    workflow.config["downloader_parameters"]["header"] = "User-Agent: us (mailto:me@example.org)"

    said = workflow.run().stdout  # DNS knows none of these names
    assert "reaches none of 3 servers" in said
    assert "no row lost a try" in said
    assert len(fleet.accesses()) == 0
    assert workflow.states() == {"pending": 18}

    with forwarding_beside(ForwardProxy(addresses=fleet.hosts)) as proxy:
        workflow.finish(HTTP_PROXY=proxy.url)
    assert workflow.states() == {"ok": 18}
    targets = {words.partition(" ")[2] for words in proxy.asked}
    assert set(fleet.urls()) <= targets
    assert len(fleet.accesses()) == len(proxy.asked)
    assert json.loads(workflow.paths.left.read_text())["left"] == 0
