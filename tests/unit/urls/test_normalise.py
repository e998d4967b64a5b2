"""What becomes of the URLs that lists really hold, and that nothing hostile gets through."""

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distributed_downloader.urls.columns import (
    SCHEMA,
    is_clean,
    normalise_column,
    server_of_clean,
)
from distributed_downloader.urls.normalise import (
    MAX_URL_BYTES,
    Normalised,
    Rejection,
    normalise_url,
    server_of,
)
from distributed_downloader.urls.words import Reason, Repair

CLEAN = [
    "http://media.canadensys.net/cmmf/867.jpg",
    "https://inaturalist-open-data.s3.amazonaws.com/photos/334972716/original.jpeg",
    "https://example.org:8080/a?b=1&b=2&c",
    "https://example.org/a?x=%2f%2F+~&y=(1);z='q'!*",
    "https://example.org/?",
    "https://example.org//double//slashes/",
    "https://10.1.2.3/a.jpg",
    "https://xn--bcher-kva.example/a.jpg",
    "https://foo_bar.example.org/a.jpg",
    "https://web.archive.org/web/2020/http://example.org/a.jpg",
    "https://example.org/get?url=https://other.example/a.jpg",
    "http://example.org:443/a.jpg",
]

REPAIRED = [
    ("  http://a.org/x.jpg\t\r\n", "http://a.org/x.jpg", {Repair.TRIMMED}),
    ("\ufeffhttp://a.org/x.jpg\u00a0", "http://a.org/x.jpg", {Repair.TRIMMED}),
    ('"http://a.org/x.jpg"', "http://a.org/x.jpg", {Repair.TRIMMED}),
    ("<http://a.org/x.jpg>", "http://a.org/x.jpg", {Repair.TRIMMED}),
    ("http:// a.org/x.jpg", "http://a.org/x.jpg", {Repair.TRIMMED}),
    ("http://a.org/x y.jpg", "http://a.org/x%20y.jpg", {Repair.PERCENT_ENCODED}),
    ("http://a.org/é.jpg", "http://a.org/%C3%A9.jpg", {Repair.PERCENT_ENCODED}),
    ("http://a.org/50%.jpg", "http://a.org/50%25.jpg", {Repair.PERCENT_ENCODED}),
    (
        "http://a.org/x[1]{2}|^.jpg",
        "http://a.org/x%5B1%5D%7B2%7D%7C%5E.jpg",
        {Repair.PERCENT_ENCODED},
    ),
    ("http://a.org/x?q=a b\\c", "http://a.org/x?q=a%20b%5Cc", {Repair.PERCENT_ENCODED}),
    ("http:\\\\a.org\\b\\x.jpg", "http://a.org/b/x.jpg", {Repair.BACKSLASHES}),
    ("http://a.org\\b\\x.jpg", "http://a.org/b/x.jpg", {Repair.BACKSLASHES}),
    ("a.org/x.jpg", "http://a.org/x.jpg", {Repair.SCHEME_ADDED}),
    ("//a.org/x.jpg", "http://a.org/x.jpg", {Repair.SCHEME_ADDED}),
    ("a.org:8080/x.jpg", "http://a.org:8080/x.jpg", {Repair.SCHEME_ADDED}),
    ("www.a.org", "http://www.a.org/", {Repair.SCHEME_ADDED, Repair.PATH_ADDED}),
    ("http://http://a.org/x.jpg", "http://a.org/x.jpg", {Repair.SCHEME_DOUBLED}),
    ("http://https://a.org/x.jpg", "https://a.org/x.jpg", {Repair.SCHEME_DOUBLED}),
    (
        "http://http//a.org/x.jpg",
        "http://a.org/x.jpg",
        {Repair.SCHEME_DOUBLED, Repair.SCHEME_MENDED},
    ),
    ("https:https://a.org/x.jpg", "https://a.org/x.jpg", {Repair.SCHEME_DOUBLED}),
    ("http:/a.org/x.jpg", "http://a.org/x.jpg", {Repair.SCHEME_MENDED}),
    ("http:///a.org/x.jpg", "http://a.org/x.jpg", {Repair.SCHEME_MENDED}),
    ("http//a.org/x.jpg", "http://a.org/x.jpg", {Repair.SCHEME_MENDED}),
    ("ttps://a.org/x.jpg", "https://a.org/x.jpg", {Repair.SCHEME_MENDED}),
    ("htp://a.org/x.jpg", "http://a.org/x.jpg", {Repair.SCHEME_MENDED}),
    ("HTTP://A.Org/X.JPG", "http://a.org/X.JPG", {Repair.LOWER_CASED}),
    ("http://bücher.example/x", "http://xn--bcher-kva.example/x", {Repair.IDNA}),
    ("http://BÜCHER.example/x", "http://xn--bcher-kva.example/x", {Repair.IDNA}),
    ("http://me:secret@a.org/x", "http://a.org/x", {Repair.CREDENTIALS}),
    ("http://me@here:secret@a.org/x", "http://a.org/x", {Repair.CREDENTIALS}),
    ("http://a.org:80/x", "http://a.org/x", {Repair.DEFAULT_PORT}),
    ("https://a.org:443/x", "https://a.org/x", {Repair.DEFAULT_PORT}),
    ("https://a.org:/x", "https://a.org/x", {Repair.DEFAULT_PORT}),
    ("https://a.org:0080/x", "https://a.org:80/x", {Repair.PORT_REWRITTEN}),
    ("http://a.org./x", "http://a.org/x", {Repair.HOST_REWRITTEN}),
    ("http://[2001:DB8:0::1]:8080/x", "http://[2001:db8::1]:8080/x", {Repair.HOST_REWRITTEN}),
    ("http://a.org", "http://a.org/", {Repair.PATH_ADDED}),
    ("http://a.org?x=1", "http://a.org/?x=1", {Repair.PATH_ADDED}),
    ("http://a.org/x.jpg#top?q", "http://a.org/x.jpg", {Repair.FRAGMENT}),
    ("http://a.org/b/../c/./x.jpg", "http://a.org/c/x.jpg", {Repair.DOT_SEGMENTS}),
    ("http://a.org/../../x.jpg?../y", "http://a.org/x.jpg?../y", {Repair.DOT_SEGMENTS}),
    ("http://a.org/b/..", "http://a.org/", {Repair.DOT_SEGMENTS}),
    ("http://localhost:8000/x", "http://localhost:8000/x", set()),
    ("http://127.0.0.1:65535/x", "http://127.0.0.1:65535/x", set()),
    ("http://[::1]/x", "http://[::1]/x", set()),
]

REJECTED = [
    (None, Reason.EMPTY),
    ("", Reason.EMPTY),
    (" \t\u3000", Reason.EMPTY),
    ('""', Reason.EMPTY),
    ("n/a", Reason.NOT_A_URL),
    ("unknown", Reason.NOT_A_URL),
    ("DSC_0001.jpg", Reason.NOT_A_URL),
    ("someone@example.org", Reason.NOT_A_URL),
    ("see: the book", Reason.NOT_A_URL),
    ("St.Petersburg", Reason.NOT_A_URL),
    ("http://a.org/1.jpg|http://a.org/2.jpg", Reason.MULTIPLE_URLS),
    ("http://a.org/1.jpg,https://a.org/2.jpg", Reason.MULTIPLE_URLS),
    ("http://a.org/1.jpg; http://a.org/2.jpg", Reason.MULTIPLE_URLS),
    ("http://a.org/1.jpg http://a.org/2.jpg", Reason.MULTIPLE_URLS),
    ("ftp://a.org/x.jpg", Reason.SCHEME),
    ("file:///etc/passwd", Reason.SCHEME),
    ("data:image/png;base64,AAAA", Reason.SCHEME),
    ("javascript:alert(1)", Reason.SCHEME),
    ("s3://bucket/x.jpg", Reason.SCHEME),
    ("doi:10.1000/182", Reason.SCHEME),
    ("C:\\photos\\x.jpg", Reason.SCHEME),
    ("http://", Reason.NO_HOST),
    ("http://:80/x", Reason.NO_HOST),
    ("http://?x", Reason.NO_HOST),
    ("http://image.jpg", Reason.BAD_HOST),
    ("http://IMG_1.JPG/x", Reason.BAD_HOST),
    ("photos.jpg/x", Reason.BAD_HOST),
    ("http://a b.org/x", Reason.BAD_HOST),
    ("http://a..org/x", Reason.BAD_HOST),
    ("http://a%2eorg/x", Reason.BAD_HOST),
    (f"http://{'a' * 64}.org/x", Reason.BAD_HOST),
    (f"http://{'abc.' * 80}org/x", Reason.BAD_HOST),
    ("http://127.1/x", Reason.BAD_HOST),
    ("http://2130706433/x", Reason.BAD_HOST),
    ("http://0x7f.0.0.1/x", Reason.BAD_HOST),
    ("http://0x7f000001/x", Reason.BAD_HOST),
    ("http://010.0.0.1/x", Reason.BAD_HOST),
    ("http://256.1.1.1/x", Reason.BAD_HOST),
    ("http://[::1/x", Reason.BAD_HOST),
    ("http://[fe80::1%25eth0]/x", Reason.BAD_HOST),
    ("http://[::1]x/y", Reason.BAD_HOST),
    ("http://\u2488.\u2488/x", Reason.BAD_HOST),
    ("http://a.org:x/y", Reason.BAD_PORT),
    ("http://a.org:0/y", Reason.BAD_PORT),
    ("http://a.org:65536/y", Reason.BAD_PORT),
    ("http://a.org:80:80/y", Reason.BAD_PORT),
    ("http://a.org:٨٠/y", Reason.BAD_PORT),
    (f"http://a.org/{'x' * MAX_URL_BYTES}", Reason.TOO_LONG),
    (f"{'http:' * 1_000_000}//a.org/x", Reason.TOO_LONG),
    (f"http://a.org/{' ' * 60_000}x", Reason.TOO_LONG),
    (f"http://{'ü' * 60_000}.org/", Reason.BAD_HOST),
    (f"http://a.org/{'é' * (MAX_URL_BYTES // 5)}", Reason.TOO_LONG),
]

PIECES = (
    "http https : / // \\ ? # @ % %41 . .. a b.org www. 1 127.0.0.1 [::1] 80 443 :80 :443 é ü A "
    ', ; | http:// https:// .jpg - _ xn-- 0x ［ 。 ½ "'
)
URL_TEXT = st.lists(st.sampled_from([*PIECES.split(), " ", "\t", "\n", "\x00"]), max_size=14).map(
    "".join
)


def counts_as_clean(url: str) -> bool:
    text = pl.lit(url)
    return bool(pl.select(is_clean(text, server_of_clean(text))).item())


@pytest.mark.parametrize("url", CLEAN)
def test_what_is_clean_stays_as_it_is(url: str) -> None:
    result = normalise_url(url)
    assert isinstance(result, Normalised)
    assert (result.url, result.repairs) == (url, ())


@pytest.mark.parametrize("url", CLEAN)
def test_what_is_clean_is_decided_without_python(url: str) -> None:
    assert counts_as_clean(url)


@pytest.mark.parametrize(("raw", "url", "repairs"), REPAIRED)
def test_sloppy_urls_are_mended(raw: str, url: str, repairs: set[Repair]) -> None:
    result = normalise_url(raw)
    assert isinstance(result, Normalised), result
    assert (result.url, set(result.repairs)) == (url, repairs)


@pytest.mark.parametrize(("raw", "reason"), REJECTED)
def test_what_is_no_url_is_rejected_with_its_reason(raw: str | None, reason: Reason) -> None:
    result = normalise_url(raw)
    assert isinstance(result, Rejection), result
    assert result.reason == reason


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("http://A.org/x", "a.org"),
        ("https://a.org/x", "a.org"),
        ("https://a.org:443/x", "a.org"),
        ("http://a.org:8080/x", "a.org:8080"),
        ("https://a.org:80/x", "a.org:80"),
        ("http://me:pw@a.org/x", "a.org"),
        ("http://[2001:DB8::0:1]/x", "[2001:db8::1]"),
        ("http://[::1]:8080/x", "[::1]:8080"),
        ("https://bücher.example/x", "xn--bcher-kva.example"),
        ("no url", ""),
    ],
)
def test_server_is_host_and_port(url: str, server: str) -> None:
    assert server_of(url) == server


@given(st.text() | URL_TEXT | st.text(alphabet=st.characters(categories=["Cs", "L", "N", "P"])))
@example("http://http:////http://")
@example("//\\@[")
@example('""""')
@example("http://a\u3002b/x")
def test_any_text_is_normalised_once_and_for_all(raw: str) -> None:
    result = normalise_url(raw)
    if isinstance(result, Normalised):
        assert result.url.isascii()
        assert normalise_url(result.url) == Normalised(result.url, result.server)
        assert server_of(result.url) == result.server


@given(st.lists(st.none() | URL_TEXT | st.text(st.characters(exclude_categories=["Cs"]))))
@example(["http://a.org/x", None, "http://a.org:80/x", "http://image.jpg/x", "http://a.org/./x"])
@example(["http://a.org/x\n", "http://a.org/x?a;HTTPS:b", "http://a.jpg:8080/", "http://a.b/?/.."])
@example(CLEAN)
def test_a_column_is_normalised_as_its_texts_one_by_one(raws: list[str | None]) -> None:
    table = normalise_column(pl.Series(raws, dtype=pl.String))
    assert table.schema == SCHEMA
    for raw, row in zip(raws, table.iter_rows(named=True), strict=True):
        result = normalise_url(raw)
        if isinstance(result, Rejection):
            assert (row["identifier"], row["reason"]) == (None, result.reason)
        else:
            assert (row["identifier"], row["server"]) == (result.url, result.server)
            assert row["reason"] is None
            assert tuple(row["repairs"] or ()) == result.repairs


HOSTS = st.from_regex(r"[a-z0-9_-]{1,5}(\.[a-z0-9_-]{1,5}){0,3}(:[0-9]{1,5})?", fullmatch=True)
TAILS = st.from_regex(r"/[A-Za-z0-9._~!$&'()*+,;=:@/?%-]{0,12}", fullmatch=True)


@given(st.sampled_from(["http://", "https://"]), HOSTS, TAILS)
def test_what_counts_as_clean_is_what_normalising_leaves_alone(
    scheme: str, host: str, tail: str
) -> None:
    url = scheme + host + tail
    if counts_as_clean(url):
        assert normalise_url(url) == Normalised(url, host)
