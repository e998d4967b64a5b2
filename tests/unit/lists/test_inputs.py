"""Every format gives the same rows, and every unreadable file one sentence."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from distributed_downloader.errors import InputError
from distributed_downloader.lists.columns import IS_WANTED
from distributed_downloader.lists.inputs import find_files, read_input
from distributed_downloader.lists.runs import slabs_of
from tests.unit.conftest import make_settings

SAMPLE = Path(__file__).parents[2] / "data" / "gbif-multimedia-sample.txt"
ROWS = [
    {"source_id": "1", "identifier": "http://a.org/1.jpg", "title": 'a "quoted" title', "x": "007"},
    {"source_id": "2", "identifier": "http://b.org/2,3.jpg", "title": None, "x": "1.50"},
    {"source_id": "3", "identifier": None, "title": "ümlaut", "x": None},
]


def tab_separated(rows: list[dict[str, Any]]) -> bytes:
    lines = ["\t".join(rows[0]), *("\t".join(v or "" for v in row.values()) for row in rows)]
    return "\n".join(lines).encode()


def comma_separated(rows: list[dict[str, Any]]) -> bytes:
    return pl.DataFrame(rows, infer_schema_length=None).write_csv().encode()


def semicolons_and_windows(rows: list[dict[str, Any]]) -> bytes:
    table = pl.DataFrame(rows, infer_schema_length=None)
    text = table.write_csv(separator=";", line_terminator="\r\n")
    return b"\xef\xbb\xbf" + text.encode()


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n\n".join(json.dumps(row) for row in rows).encode()


def json_array(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, indent=2).encode()


TEXT_FORMATS = [tab_separated, comma_separated, semicolons_and_windows, json_lines, json_array]


def plain(data: bytes) -> bytes:
    return data


def read(tmp_path: Path, path: Path | str, **config: Any) -> pl.DataFrame:
    settings = make_settings(tmp_path, path_to_input=str(path), **config)
    files = read_input(settings, tmp_path / "scratch")
    return pl.concat([piece for file in files for piece in file.pieces()], how="diagonal")


@pytest.mark.parametrize("pack", [plain, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("write", TEXT_FORMATS)
def test_every_text_format_gives_the_same_rows(
    tmp_path: Path, write: Callable[..., bytes], pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "list.whatever"  # the content decides, not the ending
    path.write_bytes(pack(write(ROWS)))
    table = read(tmp_path, path)
    assert table.select("source_id", "identifier", "title", "x").to_dicts() == ROWS
    assert table[IS_WANTED].all()


def test_parquet_keeps_the_types_of_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "list.bin"
    pl.DataFrame({"id": [7], "url": ["http://a.org/x"], "n": [1.5], "tags": [["a"]]}).write_parquet(
        path
    )
    table = read(tmp_path, path)
    assert table.select("source_id", "identifier", "n", "tags").to_dicts() == [
        {"source_id": "7", "identifier": "http://a.org/x", "n": 1.5, "tags": ["a"]}
    ]


@pytest.mark.parametrize("head", ["", "url\n", "\ufeffidentifier\r\n"])
def test_a_plain_list_has_one_url_a_line(tmp_path: Path, head: str) -> None:
    path = tmp_path / "urls.txt"
    path.write_text(head + "http://a.org/1,2.jpg\r\n\r\n  \nhttp://b.org/x\n", newline="")
    table = read(tmp_path, path)
    assert table["identifier"].to_list() == ["http://a.org/1,2.jpg", "http://b.org/x"]


def test_quotes_are_data_in_tab_separated_text(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('identifier\ttitle\nhttp://a/1\t"open\nhttp://a/2\tclosed"\n\n')
    assert read(tmp_path, path)["title"].to_list() == ['"open', 'closed"']


def test_short_and_long_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("identifier,title\nhttp://a/1\nhttp://a/2,b,c,d\n\n")
    assert read(tmp_path, path).select("identifier", "title").rows() == [
        ("http://a/1", None),
        ("http://a/2", "b"),
    ]


def test_a_column_that_only_late_rows_have_is_read(tmp_path: Path) -> None:
    path = tmp_path / "late.jsonl"
    early = '{"url": "http://a/1", "n": 1}\n' * 2000
    path.write_text(early + '{"url": "http://a/2", "late": {"deep": [1]}, "n": [2]}\n')
    table = read(tmp_path, path)
    assert json.loads(table["late"][-1]) == {"deep": [1]}
    assert table["n"].to_list()[-2:] == ["1", "[2]"]


def test_a_long_json_array_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    rows = [{"identifier": f"http://ä.org/{n}", "t": "}],{" * (n % 7)} for n in range(5000)]
    path.write_text(json.dumps(rows, ensure_ascii=False))
    assert read(tmp_path, path).select("identifier", "t").to_dicts() == rows


def test_white_space_may_follow_a_json_array(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('[{"identifier": "http://a/1"}]' + " \n\t\r" * 50_000)
    assert read(tmp_path, path)["identifier"].to_list() == ["http://a/1"]


def test_names_in_the_config_win(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("identifier\taccessURI\tserver\tid\nocc-1\thttp://a/1\track 3\t9\n")
    table = read(tmp_path, path, columns={"identifier": "accessURI"})
    assert table.drop_nulls("identifier").select(
        "identifier", "identifier_input", "server_input", "source_id"
    ).rows() == [("http://a/1", "occ-1", "rack 3", "9")]


@pytest.mark.parametrize(("ours", "theirs"), [("uuid", "identifier"), ("source_id", "Image_URL")])
def test_a_config_that_takes_the_urls_for_something_else_is_told(
    tmp_path: Path, ours: str, theirs: str
) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"{theirs},h\nhttp://a/1,x\n")
    with pytest.raises(InputError) as raised:
        read(tmp_path, path, columns={ours: theirs})
    assert str(raised.value) == (
        f"{path} has no column left for the URLs, since columns.{ours} in the config is {theirs}: "
        f"leave columns.{ours} out, or name another column there."
    )


def test_a_folder_gives_its_tables_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.csv", "a.tsv", "deep/c.jsonl.gz", "_SUCCESS.txt", ".hidden.txt", "meta.xml"):
        (folder / name).write_text("x")
    (folder / "empty.csv").touch()
    assert [file.name for file in find_files(str(folder))] == ["a.tsv", "b.csv", "c.jsonl.gz"]
    assert [file.name for file in find_files(str(folder / "**" / "*.jsonl.gz"))] == ["c.jsonl.gz"]


BAD = [
    ("twice.csv", b"url,t,t\nhttp://a/1,x,y\n", "has the column t twice in its line 1"),
    ("split.csv", b"url,t\nhttp://a/1;x\nhttp://a/2;y\n", "';' in line 2 ('http://a/1;x')"),
    ("deep.jsonl", b'{"url": "u"}\n{"url": ' + b"[" * 9999 + b"\n", ", in line 2)"),
    ("late.jsonl", b'{"url": "u"}\n{"url": "v"}\n{"url": }\n', ", in line 3)"),
    ("gone.txt", None, "There is no file"),
    ("empty.csv", b"", "is empty"),
    ("blank.csv", b" \n\n", "is empty"),
    ("list.csv", b"a,b\n1,2\n", "has no column identifier; its columns are a, b"),
    ("list.tsv", b"a\tb\n1\t2\n", "has no column identifier; its columns are a, b"),
    ("list.jsonl", b'{"a": 1, "b": 2}\n', "has no column identifier; its columns are a, b"),
    ("two.csv", b"url,image_url\nu,v\n", "its columns are url, image_url"),
    ("photo.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF", "is not text in UTF-8"),
    ("latin.csv", "identifier,t\nhttp://a/1,é\n".encode("latin-1"), "is not text in UTF-8"),
    ("utf16.csv", "identifier".encode("utf-16"), "UTF-16: save it as UTF-8"),
    ("dwca.zip", b"PK\x03\x04....", "is a zip archive"),
    ("prose.txt", b"Dear all\nno list here\n", "has neither a URL"),
    ("headless.tsv", b"http://a/1\t1\nhttp://a/2\t2\n", "no header line"),
    ("cut.gz", gzip.compress(b"identifier\nhttp://a/1\n")[:-12], "annot"),
    ("cut.parquet", b"PAR1....", "cannot be read to its end"),
    ("bad.jsonl", b'{"url": "u"}\n{"url": \n', "cannot be read to its end"),
    ("bad.json", b'[{"url": "u"}, {"url": ', "cannot be read to its end"),
    ("numbers.json", b'[{"url": "u"}, 3]', "cannot be read to its end"),
    ("array.jsonl", b'{"url": "u"}\n[1, 2]\n', "(not an object: [1, 2], in line 2)"),
    ("names.jsonl", b'{"url": "u"}\n\n["url"]\n', '(not an object: ["url"], in line 3)'),
    ("number.jsonl", b'{"url": "u"}\n5\n', ", in line 2)"),
    ("two.json", b'[{"url": "u"}]\n[{"url": "v"}]', '\'[{"url": "v"}]\' follows the ] at the'),
    ("more.json", b'[{"url": "u"}] garbage', "'garbage' follows the ] at the end of its list"),
    ("far.json", b'[{"url": "u"}]' + b" " * 70_000 + b"{", "'{' follows the ] at the end"),
    ("none.json", b"[]", "is an empty list"),
]


@pytest.mark.parametrize(("name", "data", "said"), BAD, ids=[name for name, *_ in BAD])
def test_what_cannot_be_read_says_why(
    tmp_path: Path, name: str, data: bytes | None, said: str
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError) as raised:
        read(tmp_path, path)
    assert str(path) in str(raised.value)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_bytes_that_are_no_utf8_far_into_the_file_are_told(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    path.write_bytes(b"identifier,t\n" + b"http://a/1,x\n" * 10_000 + b"http://a/2,\xe9\n")
    with pytest.raises(InputError, match=r"late\.csv cannot .*utf-8.*in line 10002\)"):
        read(tmp_path, path)


def test_an_empty_folder_says_what_would_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(InputError, match=r"holds no file that ends in one of \.txt"):
        find_files(str(folder))


def test_a_nested_url_column_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pl.DataFrame({"identifier": [["u", "v"]]}).write_parquet(path)
    with pytest.raises(InputError, match="explode it"):
        read(tmp_path, path)


@pytest.mark.parametrize(
    ("sizes", "slabs"),
    [([], [0, 0]), ([5], [0, 1]), ([5, 5, 5], [0, 2, 3]), ([50, 1, 9], [0, 1, 3])],
)
def test_slabs_hold_whole_batches(sizes: list[int], slabs: list[int]) -> None:
    batches = pl.DataFrame({"rows": sizes}, schema={"rows": pl.UInt32})
    assert slabs_of(batches, 10) == slabs


def test_a_cell_of_a_hundred_megabytes_is_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    with path.open("w") as file:
        file.write("identifier,note\nhttp://a.org/1,")
        file.write("x" * 100_000_000)
        file.write("\nhttp://a.org/2,short\n")
    table = read(tmp_path, path)
    assert table["identifier"].to_list() == ["http://a.org/1", "http://a.org/2"]
    assert table["note"].str.len_bytes().to_list() == [100_000_000, 5]


def test_a_hundred_megabytes_on_the_first_line_of_a_plain_list_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("http://a.org/" + "x" * 100_000_000 + "\n")
    with pytest.raises(InputError, match=r"list\.txt has neither a URL in its first lines"):
        read(tmp_path, path)
