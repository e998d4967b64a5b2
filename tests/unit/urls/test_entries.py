"""Hosts that people write in settings and tables mean what the same hosts in URLs mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.errors import ConfigError
from distributed_downloader.urls.entries import (
    entry_of,
    host_entry_of,
    key_of,
    names_of,
    pattern_of,
)
from distributed_downloader.urls.normalise import Normalised, normalise_url

BUECHER = "xn--bcher-kva.example"

ENTRIES = [
    ("example.org", "example.org"),
    (" Example.ORG. ", "example.org"),
    ("example.org:443", "example.org:443"),
    ("example.org.:8080", "example.org:8080"),
    ("example.org:0080", "example.org:80"),
    ("https://example.org:443/", "example.org:443"),
    ("http://example.org:80/x", "example.org:80"),
    ("http://example.org:/", "example.org"),
    ("http:/example.org", "example.org"),
    ("http:example.org", "example.org"),
    ("//example.org/x", "example.org"),
    ("example.org/x?y", "example.org"),
    ("https://me:secret@example.org/x", "example.org"),
    ("https://example.org/#top", "example.org"),
    ("example.org # said stop", "example.org"),
    ("*.example.org", "example.org"),
    (".example.org", "example.org"),
    ("https://*.example.org/", "example.org"),
    ("bücher.example", BUECHER),
    ("*.BÜCHER.example.", BUECHER),
    ("XN--bcher-kva.example.", BUECHER),
    ("straße.de", "xn--strae-oqa.de"),
    ("[2001:db8:0:0::1]", "2001:db8::1"),
    ("2001:DB8:0::1", "2001:db8::1"),
    ("http://[2001:db8:0::1]:8080/x", "[2001:db8::1]:8080"),
    ("127.0.0.1:8000", "127.0.0.1:8000"),
    ("org", "org"),
]

NO_HOST = [
    "",
    "# a note",
    "http://",
    "http://[example.org",
    "ftp://example.org",
    "user@example.org",
    "example.org; other.org",
    "example.org other.org",
    "example.org\nother.org",
    "http://example.org/,http://other.org/",
    "server_name;why",
    "a..org",
    "image.jpg",
    "127.1",
    "example.org:0",
    "example.org:http",
    "[fe80::1%25eth0]",
]


@pytest.mark.parametrize(("written", "entry"), ENTRIES)
def test_entries_are_spelled_as_in_urls(written: str, entry: str) -> None:
    assert entry_of(written, "x") == entry
    assert entry_of(entry, "x") == entry


@pytest.mark.parametrize("written", NO_HOST)
def test_what_is_no_host_is_one_sentence_with_value_and_place(written: str) -> None:
    for read in (entry_of, pattern_of):
        with pytest.raises(ConfigError) as raised:
            read(written, "filters.servers")
        assert str(raised.value) == (
            f"filters.servers has {written!r}, which is no host: write it as example.org, "
            "example.org:8080 or [2001:db8::1]."
        )


@pytest.mark.parametrize("written", ["*.example.org:8080", "*", "*example.org", "a.*.org"])
def test_a_wildcard_that_means_no_host_and_what_is_below_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match=r"which is no wildcard .* write it as \*\.example\.org"):
        entry_of(written, "x")


def test_a_long_value_is_cut_in_the_sentence() -> None:
    with pytest.raises(ConfigError) as raised:
        entry_of("x" * 10_000, "x")
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("written", "pattern"),
    [
        ("*.Example.org.", "*.example.org"),
        ("*.bücher.example", f"*.{BUECHER}"),
        ("cdn*.example.org", "cdn*.example.org"),
        ("127.0.*", "127.0.*"),
        ("*", "*"),
        ("https://example.org:443/", "example.org:443"),
        ("[2001:db8:0::1]", "2001:db8::1"),
    ],
)
def test_patterns_keep_their_wildcards(written: str, pattern: str) -> None:
    assert pattern_of(written, "x") == pattern
    assert pattern_of(pattern, "x") == pattern


@pytest.mark.parametrize(
    "written", ["*.example.org:8080", "*.[::1]", "cdn*.bücher.example", "*.a..b"]
)
def test_patterns_that_match_nothing_are_refused(written: str) -> None:
    with pytest.raises(ConfigError, match="which is no wildcard"):
        pattern_of(written, "x")


def test_what_goes_by_host_has_no_port() -> None:
    assert host_entry_of("https://Example.org:8080/", "x") == "example.org"
    assert host_entry_of("[2001:db8:0::1]:8080", "x") == "2001:db8::1"


def test_a_key_may_be_the_name_of_a_group() -> None:
    assert key_of("Museum") == key_of("museum") == "museum"
    assert key_of("Museum: A") == "museum: a"


@pytest.mark.parametrize(
    ("server", "names"),
    [
        ("a.org", {"a.org:80", "a.org:443", "a.org", "org"}),
        ("a.org:8080", {"a.org:8080", "a.org", "org"}),
        ("[::1]", {"[::1]:80", "[::1]:443", "::1"}),
        ("[2001:db8::1]:81", {"[2001:db8::1]:81", "2001:db8::1"}),
        ("2001:db8::1", {"[2001:db8::1]:80", "[2001:db8::1]:443", "2001:db8::1"}),
    ],
)
def test_a_server_goes_by_its_port_its_host_and_its_domains(server: str, names: set[str]) -> None:
    assert set(names_of(server)) == names


@given(
    st.sampled_from(["http://", "https://", "//", "HTTPS:/"]),
    st.from_regex(
        r"[a-zé0-9_-]{1,5}(\.[a-z0-9_-]{1,5}){1,3}\.?|\[[0-9a-f:]{2,9}\]", fullmatch=True
    ),
    st.sampled_from(["", ":", ":80", ":443", ":8080", ":00080"]),
    st.from_regex(r"(/[a-z.,;|?#]{0,8})?", fullmatch=True),
)
def test_the_entry_of_a_url_means_its_server(scheme: str, host: str, port: str, tail: str) -> None:
    result = normalise_url(scheme + host + port + tail)
    if isinstance(result, Normalised):
        for written in (scheme + host + port + tail, result.url, result.server):
            assert entry_of(written, "x") in names_of(result.server)
