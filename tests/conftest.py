import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import hypothesis
import pytest

from distributed_downloader.fleet.plan import FleetPlan, HostPlan
from distributed_downloader.fleet.running import Fleet, running_fleet

# A busy machine must not fail a property: how long an example takes says nothing about it.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
# `make fuzz`: the same properties, for as long as one likes.
hypothesis.settings.register_profile(
    "fuzz", deadline=None, max_examples=int(os.environ.get("EXAMPLES", "600"))
)

# A shell's `&` has its children ignore SIGINT, and so would all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A proxy of the machine's own leads to no server of a test.
for name in ("http_proxy", "https_proxy", "no_proxy"):
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)

StartFleet = Callable[..., Fleet]


@pytest.fixture
def start_fleet() -> Iterator[StartFleet]:
    """Start a fleet of these hosts on a free port; it ends with the test."""
    with ExitStack() as stack:

        def start(*hosts: HostPlan) -> Fleet:
            return stack.enter_context(running_fleet(FleetPlan(hosts=hosts)))

        yield start
