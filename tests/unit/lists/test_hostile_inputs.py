"""Whatever bytes a list holds: rows that add up, or one sentence. Nothing else gets out."""

import gzip
import io
import json
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from distributed_downloader.errors import DownloaderError
from distributed_downloader.lists.partition import partition_urls
from tests.unit.conftest import make_settings

NAMES = st.sampled_from(
    ["uuid", "identifier", "source_id", "license", "server", "reason", "__x", "", " ", "a\nb", "é"]
)
CELLS = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["http://a.org/1.jpg", "http://[", "//x/..", "\0", "=1+1", "a,b\t\"c'", "[1]"]),
)
ROWS = st.lists(st.dictionaries(NAMES, CELLS, max_size=5), min_size=1, max_size=6)


def as_json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def as_json_array(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows).encode()


def as_table(rows: list[dict[str, Any]]) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    return "\n".join("\t".join(line) for line in lines).encode("utf-8", "replace")


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    texts = [{name: None if v is None else str(v) for name, v in row.items()} for row in rows]
    names = dict.fromkeys(name for row in texts for name in row)
    pl.DataFrame(texts, schema=dict.fromkeys(names, pl.String)).write_parquet(buffer)
    return buffer.getvalue()


WRITTEN = st.one_of(*(ROWS.map(write) for write in (as_json_lines, as_json_array, as_table)))
DAMAGED = st.tuples(ROWS.map(as_parquet), st.integers(0, 10_000), st.integers(0, 255)).map(
    lambda parts: (
        parts[0][: parts[1] % len(parts[0])] + bytes([parts[2]]) + parts[0][parts[1] % 500 :]
    )
)
STARTS = st.sampled_from(
    [b"", b"identifier\n", b"identifier,b\n", b"[{", b'{"identifier":', b"PAR1", b"\x1f\x8b", b"PK"]
)
JUNK = st.tuples(STARTS, st.binary(max_size=200)).map(b"".join)
PACKED = st.tuples(
    st.sampled_from([gzip.compress, zstandard.compress]), WRITTEN, st.integers(0, 60)
).map(lambda parts: parts[0](parts[1])[: -parts[2] or None])


@given(WRITTEN | ROWS.map(as_parquet) | DAMAGED | JUNK | PACKED)
@example(b"identifier\n" + b'"' * 100)
@example(b'[{"identifier": "' + b"[" * 5000)
@example(b"[" * 50_000)
@example(b'{"identifier": ' + b"[" * 50_000)
@example(b"identifier,identifier,IDENTIFIER\nhttp://a.org/1,2,3\n")
@example(b'{"identifier": 1e999}\n{"identifier": "\\ud800"}')
def test_any_list_is_accounted_for_or_refused_in_one_sentence(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list"
        path.write_bytes(content)
        settings = make_settings(Path(folder), path_to_input=str(path))
        try:
            counts = partition_urls(settings)
        except DownloaderError as error:
            assert str(error)
            assert not settings.paths.urls.exists()
            return
        assert counts.rows == counts.fetchable + counts.duplicates + counts.rejected > 0
        written = pl.read_parquet(settings.paths.partitions)["rows"].sum()
        assert written == counts.fetchable


TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
MEDIA = ("gbifID", "type", "format", "identifier", "license")
GBIF_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "gbifID": st.sampled_from(["1", "2", "", '"']),
            "type": st.sampled_from(["StillImage", "", "Sound"]),
            "format": st.sampled_from(["image/jpeg", ""]) | TEXTS,
            "identifier": CELLS.map(str),
            "license": TEXTS,
        }
    ),
    min_size=1,
    max_size=5,
)
MEMBERS = st.sampled_from(["multimedia.txt", "occurrence.txt", "meta.xml", "../multimedia.txt"])


def as_archive(rows: list[dict[str, str]], extra: str, junk: bytes) -> bytes:
    """As GBIF sends it, with a member that may be there already."""
    lines = [MEDIA, *([row[name] for name in MEDIA] for row in rows)]
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("multimedia.txt", "\n".join("\t".join(line) for line in lines))
        archive.writestr("occurrence.txt", "gbifID\tbasisOfRecord\n1\tHUMAN_OBSERVATION\n")
        archive.writestr(extra, junk)
    return buffer.getvalue()


@given(GBIF_ROWS, MEMBERS, st.binary(max_size=40), st.integers(0, 5_000), st.integers(0, 255))
def test_any_archive_is_accounted_for_or_refused_in_one_sentence(
    rows: list[dict[str, str]], extra: str, junk: bytes, at: int, byte: int
) -> None:
    content = bytearray(as_archive(rows, extra, junk))
    content[at % len(content)] ^= byte
    if byte % 5 == 1:
        del content[at % len(content) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.zip"
        path.write_bytes(content)
        settings = make_settings(Path(folder), path_to_input=str(path), initializer_type="gbif")
        try:
            counts = partition_urls(settings)
        except DownloaderError as error:
            assert str(error)
            assert not settings.paths.urls.exists()
            return
        assert counts.rows == counts.fetchable + counts.duplicates + counts.rejected > 0
        assert not (Path(folder).parent / "multimedia.txt").exists()
