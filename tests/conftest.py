from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from distributed_downloader.fleet.plan import FleetPlan, HostPlan
from distributed_downloader.fleet.running import Fleet, running_fleet

StartFleet = Callable[..., Fleet]


@pytest.fixture
def start_fleet() -> Iterator[StartFleet]:
    """Start a fleet of these hosts on a free port; it ends with the test."""
    with ExitStack() as stack:

        def start(*hosts: HostPlan) -> Fleet:
            return stack.enter_context(running_fleet(FleetPlan(hosts=hosts)))

        yield start
