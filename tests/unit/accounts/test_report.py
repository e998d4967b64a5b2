import re
from collections import Counter
from html.parser import HTMLParser

import polars as pl
import pytest

from distributed_downloader.accounts import report
from distributed_downloader.accounts.report import render, write_report
from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.durable import read_json, write_json
from distributed_downloader.paths import Batch
from distributed_downloader.records import ErrorClass, State
from tests.unit.dataset_folder import OUTCOMES, DatasetFolder

HOSTILE = '"><script>alert(1)</script>&\x1b'
FAILED = ("failed_final", "failed_retryable", "refused_by_policy")


class Page(HTMLParser):
    """The tables of a page: a row is its attributes and, by class of cell, their text."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.tags, self.attributes = {}, Counter(), []
        self._rows, self._open, self._depth = None, [], 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        attrs = dict(attrs)
        if tag == "table":
            self._rows = self.tables.setdefault(attrs["id"], [])
        elif tag == "tr":
            self._rows.append({"attrs": attrs, "cells": {}, "classes": {}})
        elif tag == "td":
            self._open = (attrs.get("class") or "").split()
        elif tag == "span" and "data-class" in attrs:
            self._rows[-1]["word"] = attrs["data-class"]

    def handle_endtag(self, tag):
        if tag == "td":
            self._open = []
        elif tag == "span" and self._rows:
            self._rows[-1].pop("word", None)

    def handle_data(self, data):
        if not self._rows:
            return
        row = self._rows[-1]
        for name in self._open:
            row["cells"][name] = row["cells"].get(name, "") + data
        if "word" in row:
            row["classes"][row["word"]] = number(data.rpartition(" ")[2])


def number(text):
    return int(text.replace(",", ""))


@pytest.fixture
def folder(tmp_path):
    folder = DatasetFolder(tmp_path / "out", rejected=3, duplicates=1500)
    folder.add(Batch("a.example.org", 0), list(OUTCOMES) * 3)
    folder.add(Batch("b.example.org:81", 0), ["ok"] * 1100 + [ErrorClass.CONNECT])
    folder.add(Batch("gone.example", 0), ["ok", "pending", ErrorClass.NOT_FOUND], wave=1)
    folder.add(Batch(HOSTILE, 0), ["ok", ErrorClass.CORRUPT_IMAGE, "pending"], wave=1)
    folder.finish().paths.ignored_table.write_text("gone.example\n")
    folder.learn(0, [{"group": "example.org", "limit": 3.0, "burst": 1, "peak_1s": 4}], ranks=2)
    folder.learn(1, [{"group": HOSTILE, "limit": 1.0, "burst": 1, "block_cause": HOSTILE}])
    return folder


@pytest.fixture
def html(folder):
    settings = folder.settings()
    return render(settings, verify_dataset(settings))


def recount(folder):
    return pl.read_parquet(folder.paths.ledger)


def test_states_on_the_page_are_the_ledgers(folder, html):
    rows = Page(html).tables["states"][1:]
    told = {row["attrs"]["data-state"]: number(row["cells"]["rows"]) for row in rows}
    assert {state: n for state, n in told.items() if n} == Counter(recount(folder)["state"])
    assert set(told) == {state.value for state in State}


def test_servers_on_the_page_are_the_ledgers(folder, html):
    ledger = recount(folder).filter(pl.col("server").is_not_null())
    rows = [row for row in Page(html).tables["servers"] if "data-server" in row["attrs"]]
    assert len(rows) == ledger["server"].n_unique() == 4
    for row in rows:
        name = row["attrs"]["data-server"].replace("\\x1b", "\x1b")
        mine = ledger.filter(server=name)
        others = mine.filter(pl.col("state").is_in(FAILED) & pl.col("error_class").is_not_null())
        assert number(row["cells"]["rows"]) == len(mine)
        assert number(row["cells"]["images"]) == len(mine.filter(state="ok"))
        assert row["classes"].items() >= Counter(others["error_class"]).items()
        assert number(row["cells"]["images"]) + sum(row["classes"].values()) == len(mine)


def test_given_up_and_rules_on_the_page_are_the_ledgers(folder, html):
    ledger, tables = recount(folder), Page(html).tables
    given_up = {
        r["attrs"]["data-class"]: number(r["cells"]["rows"]) for r in tables["given-up"][1:]
    }
    assert given_up == Counter(ledger.filter(state="failed_final")["error_class"])
    rules = sum(number(row["cells"]["rows"]) for row in tables["policy"][1:])
    assert rules == len(ledger.filter(pl.col("state").is_in(["refused_by_policy", "ignored"])))


def test_reasons_of_rejected_rows_are_on_the_page(html):
    assert '<span data-reason="no_host">no host 3</span>' in html


def test_images_over_time_and_of_waves_are_the_ledgers(folder, html):
    images = len(recount(folder).filter(state="ok"))
    bars = re.findall(r'class="bar".*?<title>[^<]*: ([\d,]+) images?</title>', html)
    assert sum(map(number, bars)) == images
    waves = Page(html).tables["waves"][1:]
    assert sum(number(row["cells"]["images"]) for row in waves) == images


def test_page_needs_nothing_from_outside(html):
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    assert not [a for a in page.attributes if a[1] in ("src", "href", "srcset", "action")]
    assert "url(" not in html and "@import" not in html


def test_hostile_names_stay_text(html):
    assert HOSTILE not in html
    assert "<script" not in html
    assert "\x1b" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_keys_in_headers_stay_out_of_the_page(folder):
    header = {"User-Agent": "bot/1 (me@example.org)", "Authorization": "Bearer hidden-key"}
    settings = folder.settings(downloader_parameters={"header": header})
    html = render(settings, verify_dataset(settings))
    assert "hidden-key" not in html
    assert "bot/1 (me@example.org)" in html


def test_many_servers_are_added_up(folder, html, monkeypatch):
    monkeypatch.setattr(report, "MOST_SERVERS", 2)
    settings = folder.settings()
    rows = Page(render(settings, verify_dataset(settings))).tables["servers"]
    told = [number(row["cells"]["rows"]) for row in rows if "data-server" in row["attrs"]]
    assert len(told) == 3
    assert sum(told) == folder.rows - folder.rejected - folder.duplicates
    assert "and 2 more servers" in render(settings, verify_dataset(settings))


def test_the_first_files_of_the_input_are_named_with_size_and_hash(folder, html, monkeypatch):
    monkeypatch.setattr(report, "SHOWN_FILES", 1)
    settings = folder.settings()
    summary = verify_dataset(settings)
    first = {"path": "/data/a.csv", "bytes": 41_363, "mtime_ns": 5, "sha256": "ab12", "version": ""}
    source = read_json(settings.paths.source)
    write_json(
        settings.paths.source, {**source, "files": [first, {**first, "path": "/data/b.csv"}]}
    )
    text = render(settings, summary)
    assert "/data/a.csv (41.4 kB, SHA-256 ab12)" in text
    assert "and 1 more" in text
    assert "/data/b.csv" not in text


def test_page_of_an_empty_run_is_a_page_too(tmp_path):
    folder = DatasetFolder(tmp_path, rejected=1).finish()
    settings = folder.settings()
    write_report(settings, verify_dataset(settings))
    html = folder.paths.report.read_text(encoding="utf-8")
    assert "No image is stored yet." in html
    assert "Nothing was given up." in html
