from io import BytesIO

import pytest
from PIL import Image

from distributed_downloader.errors import ConfigError
from distributed_downloader.fleet.plan import FleetPlan, Special, Trick
from distributed_downloader.fleet.replies import Ending, bomb
from distributed_downloader.fleet.site import Site, specials_by_path
from tests.unit.fleet.hosts import get, host

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
