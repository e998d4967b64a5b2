import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from itertools import pairwise

import httpx
import pytest

from distributed_downloader.errors import ConfigError
from distributed_downloader.fleet.judge import exceeds, read_log
from distributed_downloader.fleet.plan import FleetPlan, Special, Trick
from distributed_downloader.fleet.running import LIBRARY_PARENT, running_fleet
from distributed_downloader.fleet.site import Site
from tests.unit.fleet.hosts import REAL_HOST, get, host

# --- over the wire


def client(fleet) -> httpx.Client:
    return httpx.Client(timeout=20.0, trust_env=False, headers={"User-Agent": "test (a@b.test)"})


def fetch(fleet, name: str, path: str) -> httpx.Response:
    with client(fleet) as ours:
        url = f"http://{fleet.hosts[name]}:{fleet.port}{path}"
        return ours.get(url, headers={"Host": f"{name}:{fleet.port}"})


def test_every_image_arrives_as_made_and_every_request_is_in_the_log(start_fleet):
    fleet = start_fleet(host(images=3), host(name="other.test", address="127.9.1.2", images=2))
    site = Site(host(images=3))
    for path in ("/photos/00000.jpg", "/photos/00002.jpg", "/robots.txt"):
        response = fetch(fleet, REAL_HOST, path)
        assert response.content == get(site, path).body
    fetch(fleet, "other.test", "/photos/00001.jpg?a=b")
    log = fleet.accesses()
    assert log["path"].to_list()[-2:] == ["/robots.txt", "/photos/00001.jpg?a=b"]
    assert log["host"].to_list() == [REAL_HOST] * 3 + ["other.test"]
    assert log["status"].to_list() == [200, 200, 404, 200]
    assert log["address"].to_list() == ["127.9.1.1"] * 3 + ["127.9.1.2"]
    assert log["user_agent"].unique().to_list() == ["test (a@b.test)"]
    assert log["bytes"][0] == len(get(site, "/photos/00000.jpg").body)


def test_hosts_at_one_address_are_told_apart_by_their_name(start_fleet):
    fleet = start_fleet(host(images=1), host(name="other.test", robots="User-agent: *"))
    assert fetch(fleet, REAL_HOST, "/robots.txt").status_code == 404
    assert fetch(fleet, "other.test", "/robots.txt").status_code == 200
    assert fleet.accesses()["host"].to_list() == [REAL_HOST, "other.test"]


def test_one_connection_serves_one_request_after_the_other(start_fleet):
    fleet = start_fleet(host(images=5))
    with client(fleet) as ours:
        for index in range(5):
            assert ours.get(f"http://127.9.1.1:{fleet.port}/photos/0000{index}.jpg").is_success
    assert fleet.accesses()["connections"].to_list() == [1] * 5


@pytest.mark.parametrize(
    ("trick", "error"),
    [
        (Trick.TRUNCATED, httpx.RemoteProtocolError),
        (Trick.RESET, httpx.RemoteProtocolError),
        (Trick.GARBAGE, httpx.RemoteProtocolError),
        (Trick.HANG, httpx.ReadTimeout),
    ],
)
def test_broken_answers_break_on_the_wire(start_fleet, trick, error):
    special = Special(trick=trick, paths=("/photos/00000.jpg",))
    fleet = start_fleet(host(specials=(special,)))
    with httpx.Client(timeout=0.5, trust_env=False) as ours, pytest.raises(error):
        ours.get(f"http://127.9.1.1:{fleet.port}/photos/00000.jpg")
    assert fleet.accesses().height == 1


def test_host_that_never_answers_accepts_and_is_logged(start_fleet):
    fleet = start_fleet(host(answers=False))
    with httpx.Client(timeout=0.5, trust_env=False) as ours, pytest.raises(httpx.ReadTimeout):
        ours.get(f"http://127.9.1.1:{fleet.port}/photos/00000.jpg")
    assert fleet.accesses()["status"].to_list() == [0]


def test_nobody_listens_at_a_host_that_is_down(start_fleet):
    down = host(name="down.test", address="127.9.1.3", listens=False)
    fleet = start_fleet(host(images=1), down)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((fleet.hosts["down.test"], fleet.port), timeout=20)


def test_latency_is_that_of_the_plan(start_fleet):
    fleet = start_fleet(host(images=1, latency_s=0.2))
    assert fetch(fleet, REAL_HOST, "/photos/00000.jpg").elapsed.total_seconds() >= 0.2


def test_slow_body_arrives_whole(start_fleet):
    fleet = start_fleet(host(images=1, bytes_per_s=10_000.0))
    response = fetch(fleet, REAL_HOST, "/photos/00000.jpg")
    assert response.content == get(Site(host(images=1)), "/photos/00000.jpg").body
    assert response.elapsed.total_seconds() > 0.05


def test_what_is_no_request_is_refused(start_fleet):
    fleet = start_fleet(host(images=1))
    with socket.create_connection((fleet.hosts[REAL_HOST], fleet.port), timeout=20) as ours:
        ours.sendall(b"hello\r\n\r\n")
        assert ours.recv(100).startswith(b"HTTP/1.1 400 ")


def test_urls_name_every_image_of_the_hosts_asked_for(start_fleet):
    fleet = start_fleet(host(images=2), host(name="other.test", address="127.9.1.2", images=1))
    assert fleet.urls("other.test") == [f"http://other.test:{fleet.port}/photos/00000.jpg"]
    assert len(fleet.urls()) == 3


def test_log_judges_a_client_that_keeps_its_pace(start_fleet):
    fleet = start_fleet(host(images=1))

    async def ask() -> None:
        url = f"http://127.9.1.1:{fleet.port}/photos/00000.jpg"
        async with httpx.AsyncClient(trust_env=False) as ours:
            await asyncio.gather(*(ours.get(url) for _ in range(8)))

    asyncio.run(ask())
    times = fleet.accesses()["monotonic"].to_list()
    assert all(earlier <= later for earlier, later in pairwise(times))
    (found,) = exceeds(times, rate=1.0, burst=2.0, windows=[5.0])
    assert found.requests == 8
    assert exceeds(times, rate=1.0, burst=8.0) == []


# --- the process


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_fleet_is_gone_when_its_block_ends():
    with running_fleet(FleetPlan(hosts=(host(images=1),))) as fleet:
        assert is_alive(fleet.pid)
    assert not is_alive(fleet.pid)


STARTER = """
import os, signal, sys
from distributed_downloader.fleet.plan import FleetPlan, HostPlan
from distributed_downloader.fleet.running import running_fleet
plan = FleetPlan(hosts=(HostPlan(name="a.test", address="127.9.1.9", images=0),))
with running_fleet(plan) as fleet:
    print(fleet.pid, flush=True)
    sys.stdin.read()
"""


def test_fleet_is_gone_when_its_parent_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", STARTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(LIBRARY_PARENT)},
    ) as starter:
        pid = int(starter.stdout.readline())
        ending = os.pidfd_open(pid)
        starter.send_signal(signal.SIGKILL)
        try:
            assert wait_until_gone(ending, timeout_s=20.0)
        finally:
            os.close(ending)


def wait_until_gone(pidfd: int, timeout_s: float) -> bool:
    """Whether the process ended in time; the kernel says so, nobody polls."""
    return bool(select.select([pidfd], [], [], timeout_s)[0])


def test_taken_port_is_told_in_one_sentence():
    with running_fleet(FleetPlan(hosts=(host(images=0),))) as fleet:
        again = FleetPlan(hosts=(host(images=0),), port=fleet.port)
        sentence = rf"127\.9\.1\.1:{fleet.port}.*another port"
        with pytest.raises(ConfigError, match=sentence), running_fleet(again):
            raise AssertionError("two fleets listen at one address")


def test_log_grows_over_fleets(tmp_path):
    log = tmp_path / "access.jsonl"
    for _ in range(2):
        with running_fleet(FleetPlan(hosts=(host(images=1),)), log) as fleet:
            fetch(fleet, REAL_HOST, "/photos/00000.jpg")
    assert read_log(log).height == 2
    assert all(json.loads(line)["status"] == 200 for line in log.read_text().splitlines())
