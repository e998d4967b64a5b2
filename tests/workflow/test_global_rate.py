"""All ranks of all waves together: redirects, retries, a kill and a restart, one budget each."""

import os
import signal
import time
from contextlib import suppress

import polars as pl
import psutil

from distributed_downloader.fleet.judge import exceeds, times_by
from distributed_downloader.fleet.plan import HostPlan, Special, Trick

RATE = 8.0
BURST = 2
RANKS = 8
PATIENCE_S = 90.0
WINDOWS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


def to(host: str) -> Special:
    """A third of the images are elsewhere."""
    return Special(trick=Trick.REDIRECT, share=0.3, to=f"http://{host}:{{port}}/photos/{{name}}")


def servers() -> list[HostPlan]:
    """Three that redirect to the next and fail once for each URL, and some for more ranks."""
    names = ["images.one.test", "images.two.test", "images.three.test"]
    main = [
        HostPlan(
            name=name,
            address=f"127.0.30.{number + 1}",
            images=24,
            photos="tiny",
            fails_first=1,
            failure_status=500,
            specials=tuple(to(next_one) for next_one in names[number + 1 : number + 2]),
        )
        for number, name in enumerate(names)
    ]
    others = [
        HostPlan(name=f"small{n}.more{n}.test", address=f"127.0.30.{n + 10}", images=10)
        for n in range(RANKS - len(names))
    ]
    return main + others


def ranks_of(process) -> list[psutil.Process]:
    """The MPI ranks that the workflow has started."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):  # it may end while we look
            if "--ranks" in child.cmdline() and "download_images.py" in " ".join(child.cmdline()):
                found.append(child)
    return found


def wait_for_requests(fleet, count: int, process) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while len(fleet.accesses()) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no requests came"
        time.sleep(0.05)


def test_no_window_shows_more_than_the_rate_whatever_happens(start_fleet, new_workflow):
    fleet = start_fleet(*servers())
    workflow = new_workflow(
        fleet,
        fleet.urls(),
        downloader_parameters={"default_rate_limit": RATE, "workers_per_node": RANKS},
        politeness={"burst": BURST, "breaker_failures": 1000},
        profile={"samples": 0},
        retries={"per_row": 3, "waves": 5},
    )
    process = workflow.start()
    wait_for_requests(fleet, 90, process)
    ranks = ranks_of(process)
    assert len(ranks) >= RANKS
    os.kill(ranks[-1].pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0

    workflow.finish()

    assert workflow.states() == {"ok": 3 * 24 + 5 * 10}
    robots = fleet.accesses().filter(pl.col("path") == "/robots.txt")
    assert robots["host"].is_unique().all()  # one for all ranks, waves and runs
    for host, times in times_by(fleet.accesses()).items():
        assert not exceeds(times, RATE, BURST, windows=WINDOWS_S), host
