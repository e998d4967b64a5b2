import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from io import BytesIO
from itertools import pairwise

import httpx
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from distributed_downloader.errors import ConfigError
from distributed_downloader.fleet.access_log import Access, AccessLog
from distributed_downloader.fleet.judge import (
    ACCESS,
    burst_needed,
    exceeds,
    peak,
    peak_requests,
    read_log,
)
from distributed_downloader.fleet.plan import FleetPlan, HostPlan, Special, Trick
from distributed_downloader.fleet.replies import Ending, Request, bomb
from distributed_downloader.fleet.running import LIBRARY_PARENT, running_fleet
from distributed_downloader.fleet.site import Bucket, Site, specials_by_path

REAL_HOST = "photos.museum.test"


def host(**changes) -> HostPlan:
    return HostPlan(**{"name": REAL_HOST, "address": "127.9.1.1", "photos": "tiny", **changes})


def get(site: Site, path: str, now: float = 0.0, **headers: str):
    return site.reply(Request("GET", path, headers), now)


# --- the judge


@pytest.mark.parametrize(
    ("times", "window_s", "most"),
    [
        ([], 1.0, 0),
        ([5.0], 1.0, 1),
        ([0.0, 0.0, 0.0], 1.0, 3),
        ([0.0, 1.0, 2.0], 1.0, 1),  # half-open: the window's end belongs to the next one
        ([0.0, 0.75, 1.25, 1.5], 1.0, 3),  # between the seconds of a clock on the wall
        ([0.0, 4.0, 4.5, 4.75, 9.0], 1.0, 3),
        ([0.0, 4.0, 4.5, 4.75, 9.0], 10.0, 5),
    ],
)
def test_peak_is_the_fullest_sliding_window(times, window_s, most):
    assert peak(times, window_s) == most


@pytest.mark.parametrize(
    ("times", "rate", "burst", "windows", "broken"),
    [
        ([0.0, 0.5, 1.0, 1.5], 2.0, 1.0, None, []),  # evenly paced needs a burst of 1
        ([0.0, 0.5, 1.0, 1.5], 2.0, 0.5, None, [1]),
        ([0.0, 0.0], 1.0, 1.0, None, [2]),
        ([0.0, 0.0], 1.0, 2.0, None, []),
        ([0.0, 0.25, 0.5, 0.75], 2.0, 1.0, [1.0], [4]),
        ([0.0, 0.25, 0.5, 0.75], 2.0, 2.0, [1.0], []),
        ([0.0, 0.25, 0.5, 0.75], 2.0, 1.0, [1.0, 10.0], [4]),  # quiet over ten seconds
        ([0.0] * 25, 2.0, 3.0, [1.0, 10.0], [25, 25]),
        ([100.0, 0.0], 1.0, 1.0, None, []),  # any order
        ([], 1.0, 0.0, None, []),
    ],
)
def test_judge_finds_the_broken_windows(times, rate, burst, windows, broken):
    assert [found.requests for found in exceeds(times, rate, burst, windows)] == broken


def test_judge_names_the_window_and_what_it_allows():
    (found,) = exceeds([0.0, 7.0, 7.25, 7.5, 30.0], rate=2.0, burst=1.0)
    assert (found.window_s, found.requests, found.allowed) == (0.5, 3, 2.0)


EIGHTHS = st.lists(st.integers(0, 80).map(lambda eighth: eighth / 8), max_size=30)


@given(EIGHTHS, st.sampled_from([0.5, 1.0, 4.0]))
def test_burst_needed_is_that_of_the_worst_of_all_windows(times, rate):
    times = sorted(times)
    windows = [
        (j + 1 - i) - rate * (times[j] - times[i])
        for i in range(len(times))
        for j in range(i, len(times))
    ]
    assert burst_needed(times, rate) == max(windows, default=0.0)


@given(EIGHTHS, st.sampled_from([0.5, 1.0, 4.0]), st.sampled_from([0.5, 1.0, 3.0]))
def test_who_keeps_to_every_window_keeps_to_each(times, rate, window_s):
    assert exceeds(times, rate, burst_needed(times, rate), [window_s]) == []


@given(EIGHTHS, st.sampled_from([1.0, 4.0]), st.integers(0, 3))
def test_bucket_admits_what_the_judge_allows_and_no_more(times, rate, burst):
    bucket = Bucket(rate, burst)
    admitted = [time for time in sorted(times) if bucket.admits(time)]
    assert exceeds(admitted, rate, burst + 1) == []


def access(**changes) -> Access:
    plain = Access(1.0, 1.0, "a.test", "test", "127.0.0.1", "GET", "/x", 200, "us", 3, 1)
    return Access(**{**{name: getattr(plain, name) for name in Access.__slots__}, **changes})


def test_log_is_read_back_in_order_without_the_line_cut_by_a_kill(tmp_path):
    path = tmp_path / "access.jsonl"
    log = AccessLog(path)
    log.write(access(monotonic=2.0, path="/second"))
    log.write(access(monotonic=1.0, path="/first"))
    log.close()
    with path.open("a") as file:
        file.write('{"time": 1.0, "mono')
    read = read_log(path)
    assert read.schema == ACCESS
    assert read["path"].to_list() == ["/first", "/second"]


def test_log_that_is_not_there_has_no_rows(tmp_path):
    assert read_log(tmp_path / "none.jsonl").height == 0
    assert peak_requests(read_log(tmp_path / "none.jsonl")) == {}


def test_peaks_are_counted_by_host_and_by_group():
    times = {"img1.test": [0.0, 0.5], "img2.test": [0.25, 5.0]}
    rows = [
        {"monotonic": time, "host": name, "group": "both"}
        for name, ours in times.items()
        for time in ours
    ]
    log = pl.DataFrame(rows)
    assert peak_requests(log, 1.0) == {"img1.test": 2, "img2.test": 1}
    assert peak_requests(log, 1.0, by="group") == {"both": 3}


# --- the plan


def test_plan_survives_json():
    special = Special(trick=Trick.REDIRECT, share=0.25, paths=("/a",), to="/b/{name}")
    plan = FleetPlan(hosts=(host(rate=5.0, specials=(special,), headers={"A": "b"}),), port=81)
    assert FleetPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "not json",
        '{"hosts": [{"name": "a"}]}',
        '{"hosts": [{"name": "a", "adress": 1}]}',
    ],
)
def test_plan_that_is_none_is_refused_with_a_sentence(text):
    with pytest.raises(ConfigError, match="no plan of a fleet"):
        FleetPlan.from_json(text)


def test_shares_are_exact_and_no_image_plays_two_tricks():
    specials = (
        Special(trick=Trick.NOT_FOUND, share=0.25),
        Special(trick=Trick.HTML, share=0.5),
    )
    found = specials_by_path(host(images=20, specials=specials))
    tricks = [special.trick for special in found.values()]
    assert (tricks.count(Trick.NOT_FOUND), tricks.count(Trick.HTML)) == (5, 10)


# --- what a host answers


def one_trick(trick: Trick, to: str = "") -> Site:
    special = Special(trick=trick, paths=("/photos/00000.jpg",), to=to)
    return Site(host(specials=(special,)), port=8080)


@pytest.mark.parametrize(
    ("trick", "status", "ending", "content_type"),
    [
        (Trick.NOT_FOUND, 404, Ending.KEEP, "text/html; charset=utf-8"),
        (Trick.GONE, 410, Ending.KEEP, "text/html; charset=utf-8"),
        (Trick.FORBIDDEN, 403, Ending.KEEP, "text/html; charset=utf-8"),
        (Trick.SERVER_ERROR, 500, Ending.KEEP, "text/html; charset=utf-8"),
        (Trick.HTML, 200, Ending.KEEP, "text/html; charset=utf-8"),
        (Trick.DISGUISED, 200, Ending.KEEP, "image/jpeg"),
        (Trick.EMPTY, 200, Ending.KEEP, "image/jpeg"),
        (Trick.TRUNCATED, 200, Ending.CUT, "image/jpeg"),
        (Trick.CORRUPT, 200, Ending.KEEP, "image/jpeg"),
        (Trick.BOMB, 200, Ending.KEEP, "image/png"),
        (Trick.OPT_OUT, 200, Ending.KEEP, "image/jpeg"),
        (Trick.DRIP, 200, Ending.KEEP, "image/jpeg"),
        (Trick.HANG, 0, Ending.HANG, None),
        (Trick.RESET, 0, Ending.RESET, None),
        (Trick.GARBAGE, 0, Ending.GARBAGE, None),
    ],
)
def test_trick_answers(trick, status, ending, content_type):
    reply = get(one_trick(trick), "/photos/00000.jpg")
    assert (reply.status, reply.ending) == (status, ending)
    assert reply.headers.get("Content-Type") == content_type
    assert get(one_trick(trick), "/photos/00001.jpg").status == 200


def test_every_trick_is_answered():
    for trick in Trick:
        assert get(one_trick(trick), "/photos/00000.jpg") is not None


def test_page_in_disguise_is_a_page():
    assert get(one_trick(Trick.DISGUISED), "/photos/00000.jpg").body.startswith(b"<!doctype html>")


def test_opt_out_comes_with_the_image():
    reply = get(one_trick(Trick.OPT_OUT), "/photos/00000.jpg")
    assert reply.headers["X-Robots-Tag"] == "noai, noimageai"
    assert Image.open(BytesIO(reply.body)).size == (48, 32)


def test_bomb_is_small_and_says_how_large_it_would_be(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000_000)  # the codec lifts it for all
    assert len(bomb()) < 100_000
    with pytest.raises(Image.DecompressionBombError, match="400000000 pixels"):
        Image.open(BytesIO(bomb()))


def test_corrupt_image_has_right_framing_and_no_whole_picture():
    image = Image.open(BytesIO(get(one_trick(Trick.CORRUPT), "/photos/00000.jpg").body))
    with pytest.raises(OSError, match="truncated"):
        image.load()


def hops(site: Site, path: str, most: int = 6) -> list[str]:
    found = [path]
    while len(found) < most and (reply := get(site, found[-1])).status == 302:
        found.append(reply.headers["Location"])
    return found


def test_redirect_fills_in_its_target():
    site = one_trick(Trick.REDIRECT, "http://cdn.test:{port}/{index}/{name}")
    assert hops(site, "/photos/00000.jpg", 2)[1] == "http://cdn.test:8080/0/00000.jpg"


def test_redirect_within_the_host_ends_at_the_image():
    site = one_trick(Trick.REDIRECT, "/moved/{name}")
    path = hops(site, "/photos/00000.jpg")[-1]
    assert path == "/moved/00000.jpg"
    assert get(site, path).body == get(Site(host()), "/photos/00000.jpg").body


def test_loop_comes_back_to_the_same_url():
    path = "/photos/00000.jpg"
    assert hops(one_trick(Trick.LOOP), path, 3) == [path, f"{path}?again", path]


def test_endless_redirects_never_repeat():
    found = hops(one_trick(Trick.ENDLESS), "/photos/00000.jpg", 6)
    assert len(set(found)) == 6


def test_unknown_name_is_not_found():
    assert get(Site(host(images=3)), "/photos/00003.jpg").status == 404


def test_suffix_of_a_name_may_lie_about_the_format():
    reply = get(Site(host()), "/photos/00001.png")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "image/jpeg")


@pytest.mark.parametrize("path", ["/photos/", "/photos/-1.jpg", "/photos/x.jpg", "/photos/²"])
def test_name_without_a_number_is_not_found(path):
    assert get(Site(host()), path).status == 404


def test_image_that_the_client_has_is_not_sent_again():
    site = Site(host())
    etag = get(site, "/photos/00001.jpg").headers["ETag"]
    again = get(site, "/photos/00001.jpg", **{"if-none-match": etag})
    assert (again.status, again.body) == (304, b"")
    assert get(site, "/photos/00002.jpg", **{"if-none-match": etag}).status == 200


@pytest.mark.parametrize(
    ("asked_at", "statuses"),
    [
        ([0.0, 0.25, 0.5], [200, 200, 200]),
        ([0.0, 0.125, 0.25], [200, 429, 200]),
        ([0.0, 0.0, 10.0, 10.0], [200, 429, 200, 429]),
    ],
)
def test_host_refuses_what_comes_faster_than_its_rate(asked_at, statuses):
    site = Site(host(rate=4.0))
    assert [get(site, "/photos/00000.jpg", now).status for now in asked_at] == statuses


def test_burst_lets_some_come_early():
    site = Site(host(rate=1.0, burst=2.0))
    assert [get(site, "/photos/00000.jpg").status for _ in range(4)] == [200, 200, 200, 429]


def test_robots_txt_counts_against_the_rate():
    site = Site(host(rate=1.0))
    assert [get(site, path).status for path in ("/robots.txt", "/photos/00000.jpg")] == [404, 429]


@pytest.mark.parametrize(
    ("changes", "header"),
    [
        ({}, None),
        ({"retry_after_s": 3.0}, "3"),
        ({"retry_after_s": 3.0, "refusal_status": 503}, "3"),
    ],
)
def test_refusal_says_when_to_come_back_if_asked_to(changes, header):
    site = Site(host(rate=1.0, **changes))
    get(site, "/photos/00000.jpg")
    refusal = get(site, "/photos/00001.jpg")
    assert refusal.status == changes.get("refusal_status", 429)
    assert refusal.headers.get("Retry-After") == header


def test_retry_after_can_be_a_date():
    site = Site(host(rate=1.0, retry_after_s=60.0, retry_after_as_date=True))
    get(site, "/a")
    assert get(site, "/a").headers["Retry-After"].endswith(" GMT")


@pytest.mark.parametrize(
    ("changes", "asked", "statuses"),
    [
        ({"fails_first": 2}, [("/1", 0), ("/1", 0), ("/2", 0), ("/1", 0)], [503, 503, 503, 200]),
        ({"recovers_after_requests": 2}, [("/1", 0), ("/2", 0), ("/3", 0)], [503, 503, 200]),
        ({"recovers_after_s": 5.0}, [("/1", 2), ("/1", 6.5), ("/1", 7)], [503, 503, 200]),
        ({"fails_first": 1, "failure_status": 500}, [("/1", 0), ("/1", 0)], [500, 200]),
    ],
)
def test_host_that_recovers_fails_first(changes, asked, statuses):
    site = Site(host(**changes))
    answers = [get(site, f"/photos/0000{path[1]}.jpg", now).status for path, now in asked]
    assert answers == statuses


def test_robots_txt_neither_fails_with_the_rest_nor_brings_recovery_nearer():
    site = Site(host(recovers_after_requests=1, robots="User-agent: *"))
    assert [get(site, path).status for path in ("/robots.txt", "/photos/00000.jpg")] == [200, 503]


@pytest.mark.parametrize(
    ("robots", "robots_status", "status", "body"),
    [
        ("User-agent: *\nDisallow: /private/\n", 200, 200, b"User-agent: *\nDisallow: /private/\n"),
        ("User-agent: *\nCrawl-delay: 2\n", 200, 200, b"User-agent: *\nCrawl-delay: 2\n"),
        ("", 200, 200, b""),
        (None, 503, 503, b""),
    ],
)
def test_robots_txt_is_as_planned(robots, robots_status, status, body):
    reply = get(Site(host(robots=robots, robots_status=robots_status)), "/robots.txt")
    assert (reply.status, reply.body) == (status, body)


def test_host_without_robots_txt_says_not_found():
    assert get(Site(host()), "/robots.txt").status == 404


def test_headers_of_the_plan_come_with_every_image():
    site = Site(host(headers={"TDM-Reservation": "1"}))
    assert get(site, "/photos/00000.jpg").headers["TDM-Reservation"] == "1"


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
