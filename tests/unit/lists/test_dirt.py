"""The dirt of real lists, a line each with what becomes of it; and that nothing else can happen."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_downloader.lists.partition import partition_urls
from distributed_downloader.urls.columns import normalise_column
from distributed_downloader.urls.words import Reason, Repair
from tests.unit.conftest import make_settings

DIRT = [  # as given, the URL that is asked or the reason why none is
    (" http://a.org/x.jpg ", "http://a.org/x.jpg"),
    ("http://a.org/x y.jpg", "http://a.org/x%20y.jpg"),
    ("http:\\\\a.org\\x.jpg", "http://a.org/x.jpg"),
    ("a.org/x.jpg", "http://a.org/x.jpg"),
    ("http://http://a.org/x.jpg", "http://a.org/x.jpg"),
    ("DSC_0001.jpg", Reason.NOT_A_URL),
    ("http://DSC_0001.jpg", Reason.BAD_HOST),
    ("http://localhost/x.jpg", "http://localhost/x.jpg"),  # refused when asked: private_address
    ("http://10.0.0.1/x.jpg", "http://10.0.0.1/x.jpg"),  # as well
    ("http://8.8.8.8/x.jpg", "http://8.8.8.8/x.jpg"),
    ("http://a.org:8080/x.jpg", "http://a.org:8080/x.jpg"),
    ("http://a.org:99999/x.jpg", Reason.BAD_PORT),
    ("HTTP://A.ORG/X.JPG", "http://a.org/X.JPG"),
    ("http://a.org/1.jpg|http://a.org/2.jpg", Reason.MULTIPLE_URLS),
    ("http://a.org/1.jpg,http://a.org/2.jpg", Reason.MULTIPLE_URLS),
    ("http://a.org/1.jpg;http://a.org/2.jpg", Reason.MULTIPLE_URLS),
    ("http://a.org/species.html", "http://a.org/species.html"),  # not_an_image, when it has come
    ("http://a.org/iiif/1/manifest.json", "http://a.org/iiif/1/manifest.json"),
    ("https://doi.org/10.1000/182", "https://doi.org/10.1000/182"),
    ("doi:10.1000/182", Reason.SCHEME),
    ("http://purl.org/x/1", "http://purl.org/x/1"),
    ("http://dead.example/x.jpg", "http://dead.example/x.jpg"),
    ("http://a.org/get?id=1&size=full", "http://a.org/get?id=1&size=full"),
    ("http://a.org/get?id=2&size=full", "http://a.org/get?id=2&size=full"),
    ("", Reason.EMPTY),
]


@pytest.fixture(scope="module")
def became(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each cell became, of one list with all of them."""
    folder = tmp_path_factory.mktemp("dirt")
    rows = [{"n": str(n), "identifier": given} for n, (given, _) in enumerate(DIRT)]
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = make_settings(folder, path_to_input=str(path))
    partition_urls(given)
    rejected = pl.read_parquet(given.paths.rejected)
    duplicates = pl.read_parquet(given.paths.duplicates)
    tables = [
        pl.read_parquet(file, hive_partitioning=False)
        for file in given.paths.urls.glob("*/*/urls.parquet")
    ]
    asked = {uuid: url for t in tables for uuid, url in t.select("uuid", "identifier").rows()}
    found = {n: url for t in tables for n, url in t.select("n", "identifier").rows()}
    found |= {n: asked[main] for n, main in duplicates.select("n", "uuid_main").rows()}
    originals = dict(zip(rejected["n"], rejected["identifier"], strict=True))
    assert originals == {n: DIRT[int(n)][0] for n in originals}  # the text as given
    return found | dict(rejected.select("n", "reason").rows())


@pytest.mark.parametrize(("number", "expected"), list(enumerate(each for _, each in DIRT)))
def test_dirt_becomes_what_it_must(became: dict[str, str], number: int, expected: str) -> None:
    assert became[str(number)] == expected


@settings(deadline=None)
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), max_size=20))
def test_any_cell_is_fetchable_or_rejected_with_a_known_word(cells: list[str | None]) -> None:
    table = normalise_column(pl.Series(cells, dtype=pl.String))
    for url, reason, repairs in table.select("identifier", "reason", "repairs").iter_rows():
        assert (url is None) != (reason is None)
        assert reason is None or reason in set(Reason)
        assert set(repairs or ()) <= set(Repair)
