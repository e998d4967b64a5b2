import pytest

from distributed_downloader.records import ErrorClass, State
from distributed_downloader.wording import CLASSES, STATES, count, duration, share, size, why


def test_every_word_has_a_meaning():
    assert set(CLASSES) == set(ErrorClass)
    assert set(STATES) == set(State)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.83, "0.8 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (18_720, "5 h 12 min"),
        (86_400 * 116, "116 days"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 10, "0%"),
        (0, 0, "0%"),
        (10, 10, "100%"),
        (1, 3, "33.3%"),
        (1, 10**6, "<0.1%"),
        (999_999, 10**6, ">99.9%"),
    ],
)
def test_share_is_all_or_nothing_only_when_it_is(part, whole, text):
    assert share(part, whole) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (999_600, "1.0 MB"), (123e6, "123 MB")],
)
def test_size(value, text):
    assert size(value) == text


def test_count():
    assert (count(1, "row"), count(1234, "row"), count(5)) == ("1 row", "1,234 rows", "5")


def test_unknown_reason_is_told_as_it_is():
    assert why("no_host") == "no host"
    assert why(None) == "no reason recorded"
