"""Opt-outs in headers."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.admission.optout import opted_out

COUNTED = ("noai", "noimageai", "noindex", "noimageindex", "noml", "tdm-reservation")
AGENT = "my-bot"


@pytest.mark.parametrize(
    ("value", "evidence"),
    [
        ("noai", "X-Robots-Tag: noai"),
        ("NoAI, noImageAI", "X-Robots-Tag: noai"),
        ("noarchive, noimageindex", "X-Robots-Tag: noimageindex"),
        ("none", "X-Robots-Tag: none"),
        ("all", None),
        ("noarchive", None),
        ("nofollow", None),
        ("noaircraft", None),
        ("my-bot: noindex", "X-Robots-Tag: my-bot: noindex"),
        ("My-Bot:noai", "X-Robots-Tag: my-bot: noai"),
        ("other-bot: noindex, noai", None),
        ("other-bot: noindex, my-bot: noai", "X-Robots-Tag: my-bot: noai"),
        ("*: noai", "X-Robots-Tag: noai"),
        ("unavailable_after: Wed, 25 Jun 2010 15:00:00 PST", None),
        ("unavailable_after: 25 Jun 2010 15:00:00 PST, noai", "X-Robots-Tag: noai"),
        ("max-snippet:-1, max-image-preview:large, noml", "X-Robots-Tag: noml"),
        ("", None),
        (",,:,", None),
    ],
)
def test_x_robots_tag(value: str, evidence: str | None) -> None:
    assert opted_out({"X-Robots-Tag": value}, COUNTED, AGENT) == evidence


def test_a_scope_ends_with_its_field() -> None:
    headers = [("X-Robots-Tag", "other-bot: nofollow"), ("X-Robots-Tag", "noai")]
    assert opted_out(headers, COUNTED, AGENT) == "X-Robots-Tag: noai"
    assert opted_out(httpx.Headers(headers), COUNTED, AGENT) == "X-Robots-Tag: noai"


@pytest.mark.parametrize(
    ("value", "counts"), [("1", True), (" 1 ", True), ("0", False), ("", False), ("yes", False)]
)
def test_tdm_reservation(value: str, counts: bool) -> None:
    found = opted_out({"TDM-Reservation": value}, COUNTED, AGENT)
    assert found == ("TDM-Reservation: 1" if counts else None)


def test_only_what_is_set_to_count_counts() -> None:
    headers = {"X-Robots-Tag": "noindex, noai, none", "TDM-Reservation": "1"}
    assert opted_out(headers, ("noai",), AGENT) == "X-Robots-Tag: noai"
    assert opted_out(headers, (), AGENT) is None


@given(
    st.lists(st.tuples(st.sampled_from(["X-Robots-Tag", "TDM-Reservation"]), st.text()), max_size=5)
)
def test_hostile_headers_never_raise(headers: list[tuple[str, str]]) -> None:
    found = opted_out(headers, COUNTED, AGENT)
    assert found is None or len(found) < 100


def test_a_huge_field_is_looked_at_in_part() -> None:
    value = "x" * 10**6 + ", noai"
    assert opted_out({"X-Robots-Tag": value}, COUNTED, AGENT) is None
