"""Licences are understood as people write them; what is denied is kept with its reason."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.errors import ConfigError, InputError
from distributed_downloader.lists.filters import Filters
from distributed_downloader.lists.licenses import license_class, license_classes
from distributed_downloader.lists.partition import partition_urls
from distributed_downloader.urls.columns import normalise_column
from tests.unit.conftest import make_settings

LICENSES = [
    ("http://creativecommons.org/licenses/by-nc/4.0/", "CC-BY-NC-4.0"),
    ("https://creativecommons.org/licenses/by-nc/4.0/legalcode", "CC-BY-NC-4.0"),
    ("https://creativecommons.org/licenses/by-nc-nd/3.0/de/deed.en", "CC-BY-NC-ND-3.0"),
    ("http://creativecommons.org/licenses/by-nd-nc/1.0/", "CC-BY-NC-ND-1.0"),
    ("http://creativecommons.org/licenses/by-sa", "CC-BY-SA"),
    ("creativecommons.org/licences/by/4.0", "CC-BY-4.0"),
    ("http://creativecommons.org/publicdomain/zero/1.0/legalcode", "CC0-1.0"),
    ("http://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
    ("http://creativecommons.org/licenses/publicdomain/", "CC-PDDC"),
    ("CC BY 4.0", "CC-BY-4.0"),
    ("cc-by-sa-3.0", "CC-BY-SA-3.0"),
    ("CC_BY_NC_4_0", "CC-BY-NC-4.0"),
    ("CC-BY-NC", "CC-BY-NC"),
    ("CC BY-NC-SA 2.5 Generic", "CC-BY-NC-SA-2.5"),
    ("(c) Ann, some rights reserved (CC BY-NC)", "CC-BY-NC"),
    ("CC0", "CC0-1.0"),
    ("CC Zero 1.0", "CC0-1.0"),
    ("Attribution-NonCommercial 4.0 International", "CC-BY-NC-4.0"),
    ("Attribution-NonCommercial 4.0 International (CC BY-NC 4.0)", "CC-BY-NC-4.0"),
    ("Creative Commons Attribution Non Commercial Share Alike", "CC-BY-NC-SA"),
    ("Creative Commons Attribution-NoDerivs 2.0", "CC-BY-ND-2.0"),
    ("This work is licensed under a Creative Commons Attribution 4.0 License", "CC-BY-4.0"),
    ("CC BY (http://creativecommons.org/licenses/by/4.0/)", "CC-BY-4.0"),
    ("CC BY 4.0 or CC BY-NC 4.0", "unknown"),
    ("http://creativecommons.org/licenses/by-nd-sa/4.0/", "unknown"),
    ("http://rightsstatements.org/vocab/InC/1.0/", "InC"),
    ("https://rightsstatements.org/page/NoC-US/1.0/?language=en", "NoC-US"),
    ("No known copyright restrictions", "NKC"),
    ("Public Domain", "public-domain"),
    ("All rights reserved", "all-rights-reserved"),
    ("© 2010 Ann Smith", "all-rights-reserved"),
    ("mit", "MIT"),
    ("GFDL-1.3-only", "GFDL-1.3-only"),
    ("Usage Conditions Apply", "unknown"),
    ("by arrangement", "unknown"),
    ("accby", "unknown"),
    ("", "none"),
    (None, "none"),
    ("  ", "none"),
]


@pytest.mark.parametrize(("text", "found"), LICENSES)
def test_licences_as_people_write_them(text: str | None, found: str) -> None:
    assert license_class(text) == found


def test_a_column_is_classed_as_its_texts_one_by_one() -> None:
    texts = pl.Series([text for text, _ in LICENSES], dtype=pl.String)
    assert license_classes(texts).to_list() == [found for _, found in LICENSES]


@given(st.text())
def test_any_text_has_a_class(text: str) -> None:
    assert license_class(text)


ROWS: list[dict[str, Any]] = [
    {"n": 1, "url": "http://img.a.org/1", "license": "CC BY 4.0", "kingdom": "Plantae"},
    {"n": 2, "url": "http://b.org:81/2", "license": "cc-by-nc", "kingdom": "Plantae"},
    {"n": 3, "url": "http://c.net/3", "license": None, "kingdom": "Animalia"},
    {"n": 4, "url": "http://d.net/4", "license": "ask me", "kingdom": None},
    {"n": 5, "url": "n/a", "license": "CC0", "kingdom": "Fungi"},
]


def denied(tmp_path: Path, **config: Any) -> dict[str, str]:
    """`n` of each rejected row, and its reason."""
    path = tmp_path / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    settings = make_settings(tmp_path, path_to_input=str(path), **config)
    counts = partition_urls(settings)
    rejected = pl.read_parquet(settings.paths.rejected)
    fetched = [
        row
        for file in settings.paths.urls.glob("*/*/urls.parquet")
        for row in pl.read_parquet(file, hive_partitioning=False)["n"]
    ]
    assert len(fetched) + rejected.height == counts.rows == len(ROWS)
    assert sum(counts.rejections.values()) == rejected.height
    return dict(rejected.select("n", "reason").rows())


DENIED = [
    ({}, {}),
    ({"licenses": ["CC-BY-*"]}, {"3": "license_denied", "4": "license_denied"}),
    ({"licenses": ["cc0-1.0", "unknown"]}, dict.fromkeys("123", "license_denied")),
    ({"servers": ["a.org", "c.net"]}, {"2": "server_denied", "4": "server_denied"}),
    ({"servers_excluded": ["*.a.org", "b.org"]}, dict.fromkeys("12", "server_denied")),
    ({"servers_excluded": ["b.org:82", "img.a.org"]}, {"1": "server_denied"}),
    ({"servers_excluded": ["c.net:443", "http://d.net:80/"]}, dict.fromkeys("34", "server_denied")),
    ({"servers_excluded": ["a.org:443", "B.org."]}, {"2": "server_denied"}),
    ({"servers_excluded": ["https://a.org/"]}, {"1": "server_denied"}),
    ({"servers": ["http://c.net:80", "*.A.org", "b.org."]}, {"4": "server_denied"}),
    ({"where": "kingdom = 'Plantae'"}, {"3": "row_denied", "4": "row_denied"}),
    ({"where": "CAST(n AS INT) > 2 AND license IS NOT NULL"}, dict.fromkeys("123", "row_denied")),
    (
        {"servers_excluded": ["a.org"], "licenses": ["CC*"], "where": "kingdom = 'x'"},
        {"1": "server_denied", "2": "row_denied", "3": "license_denied", "4": "license_denied"},
    ),
]


@pytest.mark.parametrize(("filters", "found"), DENIED)
def test_what_is_denied_is_kept_with_its_reason(
    tmp_path: Path, filters: dict[str, Any], found: dict[str, str]
) -> None:
    assert denied(tmp_path, filters=filters) == {"5": "not_a_url", **found}


def test_a_table_of_excluded_servers_is_read(tmp_path: Path) -> None:
    table = tmp_path / "excluded.csv"
    table.write_text("server_name,why\nC.net,asked us\n\n")
    found = denied(tmp_path, excluded_servers_path=str(table))
    assert found == {"5": "not_a_url", "3": "server_denied"}
    table.write_text("host\nc.net\n")
    with pytest.raises(ConfigError, match=r"excluded\.csv has no column server_name"):
        denied(tmp_path, excluded_servers_path=str(table), path_to_output=str(tmp_path / "two"))


@pytest.mark.parametrize("written", ["bücher.example", "BÜCHER.example.", "xn--bcher-kva.example."])
def test_a_host_beyond_ascii_is_excluded_however_it_is_written(
    tmp_path: Path, written: str
) -> None:
    table = tmp_path / "excluded.csv"
    table.write_text(f"server_name\nhttps://{written}/x # asked us\n# a note\n", encoding="utf-8")
    server = normalise_column(pl.Series(["http://bücher.example/1"]))["server"]
    licence, allowed = pl.Series(["CC0"]), pl.Series([True])
    for config in (
        {"filters": {"servers_excluded": [written]}},
        {"excluded_servers_path": str(table)},
    ):
        filters = Filters(make_settings(tmp_path, **config))
        assert filters.reasons(server, licence, allowed).to_list() == ["server_denied"]


def test_an_entry_that_is_no_host_is_one_sentence(tmp_path: Path) -> None:
    for key in ("servers", "servers_excluded"):
        settings = make_settings(tmp_path, filters={key: ["a.org", "cdn*.a.org"]})
        with pytest.raises(ConfigError, match=rf"^filters\.{key} has 'cdn\*\.a\.org', which is no"):
            Filters(settings)
    table = tmp_path / "excluded.csv"
    settings = make_settings(tmp_path, excluded_servers_path=str(table))
    table.write_text("server_name\na.org\nhttp://[b.org\n")
    with pytest.raises(
        ConfigError, match=r"excluded\.csv, line 3, has 'http://\[b\.org', which is"
    ):
        Filters(settings)
    table.write_text('server_name\n"a.org\nb.org\n')
    with pytest.raises(ConfigError, match=r"cannot read .*excluded\.csv"):
        Filters(settings)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("kingdom =", "no condition in SQL"),
        ("SELECT 1", "no condition in SQL"),
        ("phylum = 'x'", "asks for phylum, but the columns of .* are n, url"),
        ("kingdom", "which is String and not true or false"),
        ("kingdom + 1 > 2", "filters.where is"),
    ],
)
def test_a_condition_that_cannot_be_asked_says_why(tmp_path: Path, where: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        denied(tmp_path, filters={"where": where})
    assert "\n" not in str(raised.value)


def test_a_condition_that_fails_on_a_row_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"filters\.where .*TRY_CAST"):
        denied(tmp_path, filters={"where": "CAST(kingdom AS INT) > 1"})
