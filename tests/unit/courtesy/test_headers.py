"""Header fields that say when to come back."""

import math
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.courtesy.headers import exhausted_s, pairs_of, retry_after_s

WALL = 1_800_000_000.0
DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        (" 30 ", 30.0),
        ("1.5", 1.5),
        ("0", None),
        ("-5", None),
        ("1000000000", DAY_S),
        ("9" * 200, DAY_S),
        ("9" * 5000, None),
        (formatdate(WALL + 120, usegmt=True), 120.0),
        (formatdate(WALL - 86_400, usegmt=True), None),
        (formatdate(WALL + 10**8, usegmt=True), DAY_S),
        ("Fri, 15 Jan 2027 08:02:00 -0000", 120.0),
        ("Friday, 15-Jan-27 08:02:00 GMT", 120.0),
        ("Fri, 99 Jan 2027 08:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY_S),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("1e308", None),
        ("-1e308", None),
        ("30, 60", None),
        ("30\r\nX: y", None),
        ("soon", None),
        ("", None),
        ("٣٠", None),
        ("inf", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after_s({"Retry-After": value}, WALL, DAY_S) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"RateLimit": '"default";r=0;t=30'}, 30.0),
        ({"RateLimit": '"default";r=50;t=30'}, None),
        ({"RateLimit": '"burst";r=9;t=1, "daily";r=0;t=600'}, 600.0),
        ({"RateLimit": '"d";r=0', "RateLimit-Policy": '"d";q=100;w=60'}, 60.0),
        ({"RateLimit": '"d";r=0'}, None),
        ({"RateLimit": "limit=100, remaining=0, reset=50"}, 50.0),
        ({"RateLimit": "limit=100, remaining=1, reset=50"}, None),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "7"}, 7.0),
        ({"RateLimit-Remaining": "3", "RateLimit-Reset": "7"}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9"}, 9.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(WALL) + 44)}, 44.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(WALL + 5) * 1000)}, 5.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(WALL) - 44)}, None),
        ({"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": "8"}, 8.0),
        ({"X-RateLimit-Remaining": "0"}, None),
        ({"X-RateLimit-Remaining": "none", "X-RateLimit-Reset": "9"}, None),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "9" * 50}, DAY_S),
    ],
)
def test_a_quota_that_is_used_up(headers: dict[str, str], seconds: float | None) -> None:
    assert exhausted_s(headers, WALL, DAY_S) == seconds


NAMES = st.sampled_from(
    [
        "Retry-After",
        "RateLimit",
        "RateLimit-Policy",
        "RateLimit-Reset",
        "RateLimit-Remaining",
        "X-RateLimit-Reset",
        "X-RateLimit-Remaining",
    ]
)
VALUES = st.one_of(
    st.text(max_size=60),
    st.from_regex(r'"?[a-z]*"?(;[qrtw]=[0-9]{0,30}){0,4}', fullmatch=True),
    st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,5} [A-Z][a-z]{2} [0-9]{1,9} [0-9:+-]{0,20}"),
    st.integers().map(str),
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_hostile_fields_never_raise_and_are_bounded(headers: list[tuple[str, str]]) -> None:
    for seconds in (retry_after_s(headers, WALL, DAY_S), exhausted_s(headers, WALL, DAY_S)):
        assert seconds is None or (0 < seconds <= DAY_S and not math.isnan(seconds))


def test_repeated_fields_stay_apart() -> None:
    pairs = [("X-Robots-Tag", "a: noai"), ("x-robots-tag", "noindex")]
    lower = [("x-robots-tag", "a: noai"), ("x-robots-tag", "noindex")]
    assert pairs_of(httpx.Headers(pairs)) == pairs_of(pairs) == lower
    assert pairs_of({"Retry-After": "1"}) == [("retry-after", "1")]
