"""Each known source keeps its images under our names; an archive is read as it comes."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from distributed_downloader.errors import ConfigError, InputError
from distributed_downloader.lists import archives
from distributed_downloader.lists.columns import IS_WANTED
from distributed_downloader.lists.inputs import list_files, read_input
from distributed_downloader.lists.sources import Source, source_named, sources
from tests.unit.conftest import make_settings

SAMPLE = Path(__file__).parents[2] / "data" / "gbif-multimedia-sample.txt"


def read(tmp_path: Path, path: Path | str, **config: Any) -> pl.DataFrame:
    settings = make_settings(tmp_path, path_to_input=str(path), **config)
    files = read_input(settings, tmp_path / "scratch")
    return pl.concat([piece for file in files for piece in file.pieces()], how="diagonal")


KNOWN = [  # source, its table, the (source_id, identifier) that are kept
    (
        "gbif",
        "gbifID\ttype\tformat\tbasisOfRecord\tidentifier\n"
        "1\tStillImage\t\t\tu\n2\t\timage/png\t\tu\n3\tSound\timage/png\t\tu\n4\t\t\t\tu\n"
        "5\tStillImage\t\tMATERIAL_CITATION\tu\n\tStillImage\t\t\tu\n6\t\tIMAGE/PNG\t\tu\n"
        "7\tStillImage\taudio/mp3\tHUMAN_OBSERVATION\tu\n8\tMovingImage\t\t\tu\n",
        [("1", "u"), ("2", "u"), ("6", "u"), ("7", "u")],
    ),
    (
        "eol",
        "EOL content ID,EOL Full-Size Copy URL,License Name\n1,u,cc-by\n,u,\n",
        [("1", "u")],
    ),
    (
        "fathom_net",
        "uuid,url,valid\n1,u,True\n2,u,False\n3,u,\n4,u,1\n,u,true\n",
        [("1", "u"), ("4", "u")],
    ),
    (
        "lila",
        "image_id,url_gcp,url_aws,url_azure,original_label\n"
        "1,,u,w,cat\n2,u,v,,empty\n3,u,v,,\n4,,,w,dog\n",
        [("1", "u"), ("3", "u"), ("4", "w")],
    ),
    (
        "tol200m_general",
        "uuid,source_id,source_url,data_source\na,1,u,gbif\nb,2,u,eol\nc,3,u,\nd,4,u,lila\n",
        [("1", "u"), ("4", "u")],
    ),
    (
        "tol200m_fathomNet",
        "uuid,source_id,source_url,data_source\na,1,u,gbif\nb,2,u,FathomNet\nd,4,u,lila\n",
        [("1", "u"), ("4", "u")],
    ),
]


@pytest.mark.parametrize(("name", "text", "kept"), KNOWN, ids=[name for name, *_ in KNOWN])
def test_known_sources_keep_their_images(
    tmp_path: Path, name: str, text: str, kept: list[tuple[str, str]]
) -> None:
    path = tmp_path / "list"
    path.write_text(text)
    table = read(tmp_path, path, initializer_type=name, included_sources=["gbif", "lila"])
    assert table.filter(IS_WANTED).select("source_id", "identifier").rows() == kept


def test_every_source_has_its_own_name() -> None:
    assert set(sources()) == {"general", *(name for name, *_ in KNOWN)}
    assert all(source.name == name for name, source in sources().items())


def test_an_unknown_source_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r'is "gbiff".* did you mean gbif'):
        source_named("gbiff")


def test_without_included_sources_a_tree_of_life_list_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("uuid,source_url,data_source\na,u,gbif\nb,u,\n")
    table = read(tmp_path, path, initializer_type="tol200m_general")
    assert table.filter(IS_WANTED)["uuid"].to_list() == ["a", "b"]


def test_sources_rename_and_add_what_they_know(tmp_path: Path) -> None:
    eol = tmp_path / "eol.csv"
    eol.write_text(
        "EOL content ID,EOL Full-Size Copy URL,License Name,Copyright Owner\n1,u,cc-by,Ann\n"
    )
    row = read(tmp_path, eol, initializer_type="eol").drop(IS_WANTED).row(0, named=True)
    assert (row["license"], row["owner"]) == ("cc-by", "Ann")
    net = tmp_path / "net.csv"
    net.write_text("uuid,url,valid\n1,u,True\n")
    row = read(tmp_path, net, initializer_type="fathom_net").row(0, named=True)
    assert row["license"] == "http://creativecommons.org/licenses/by-nc-nd/4.0/"
    assert row["uuid"] is None  # FathomNet's names an image of several boxes: it is the source_id


def test_a_new_source_is_one_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = Source("mine", {"identifier": "link"}, wanted=lambda column, _: column("ok") == "y")
    monkeypatch.setattr(
        "distributed_downloader.lists.sources.sources", lambda: {"mine": mine, **sources()}
    )
    (tmp_path / "list.csv").write_text("link,ok\nu,y\nv,n\n")
    table = read(tmp_path, tmp_path / "list.csv", initializer_type="mine")
    assert table.filter(IS_WANTED)["identifier"].to_list() == ["u"]


MULTIMEDIA = (
    "gbifID\ttype\tidentifier\ttitle\n"
    '1\tStillImage\thttp://a/1\t"open\n2\tStillImage\thttp://a/2\t\n'
    '1\tStillImage\thttp://a/3\tclosed"\n9\tStillImage\thttp://a/9\t\n3\tStillImage\thttp://a/4\t'
)
OCCURRENCE = (
    "gbifID\tdatasetKey\tbasisOfRecord\tspecies\tremarks\n"
    "2\td-2\tMATERIAL_CITATION\tParus major\tlong\n1\td-1\tHUMAN_OBSERVATION\t\t\n"
    "3\td-1\t\tSitta\tx\n1\td-again\t\t\t\n7\td-7\t\t\t\n"
)
JOINED = [
    ("1", "http://a/1", "d-1", None, True),
    ("2", "http://a/2", "d-2", "Parus major", False),
    ("1", "http://a/3", "d-1", None, True),
    ("9", "http://a/9", None, None, True),
    ("3", "http://a/4", "d-1", "Sitta", True),
]
COLUMNS = ("source_id", "identifier", "datasetKey", "species", IS_WANTED)


def as_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "0001-archive"
    folder.mkdir()
    (folder / "multimedia.txt").write_text(MULTIMEDIA)
    (folder / "occurrence.txt").write_text(OCCURRENCE)
    (folder / "verbatim.txt").write_text("gbifID\tidentifier\n5\thttp://verbatim/\n")
    (folder / "citations.txt").write_text("When using this dataset please cite ...\n")
    (folder / "meta.xml").write_text("<archive/>")
    return folder


def as_zip(tmp_path: Path) -> Path:
    path = tmp_path / "0001-archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(as_folder(tmp_path).iterdir()):
            archive.write(file, file.name)
    return path


def as_parquet(tmp_path: Path) -> Path:
    folder = tmp_path / "tables"
    folder.mkdir()
    for name, text in (("multimedia", MULTIMEDIA), ("occurrence", OCCURRENCE)):
        source = tmp_path / f"{name}.txt"
        source.write_text(text)
        table = pl.read_csv(source, separator="\t", quote_char=None)
        table.write_parquet(folder / f"{name}.parquet")
    return folder


ARCHIVES = [as_folder, as_zip, as_parquet]


@pytest.mark.parametrize("make", ARCHIVES)
def test_an_archive_is_read_as_it_comes(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    table = read(tmp_path, make(tmp_path), initializer_type="gbif")
    assert table.select(COLUMNS).rows() == JOINED
    assert "remarks" not in table.columns
    assert table["title"].to_list()[:3] == ['"open', None, 'closed"']


@pytest.mark.parametrize("make", ARCHIVES)
def test_a_big_archive_gives_the_same_rows_bucket_by_bucket(
    tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SMALL_BYTES", 0)
    monkeypatch.setattr(archives, "BUCKET_BYTES", 50)
    monkeypatch.setattr(archives, "PIECE_ROWS", 2)
    path = make(tmp_path)
    one = read(tmp_path / "one", path, initializer_type="gbif").select(COLUMNS)
    two = read(tmp_path / "two", path, initializer_type="gbif").select(COLUMNS)
    assert one.equals(two)
    assert sorted(one.rows()) == sorted(JOINED)
    of_one = one.filter(source_id="1")["identifier"].to_list()
    assert of_one == ["http://a/1", "http://a/3"]  # in the order of the table


def test_a_zip_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributed_downloader.lists.blocks.BLOCK_BYTES", 40)
    monkeypatch.setattr(archives, "READ_BYTES", 7)
    table = read(tmp_path, as_zip(tmp_path), initializer_type="gbif")
    assert table.select(COLUMNS).rows() == JOINED


def test_only_the_files_that_are_read_are_the_input(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    settings = make_settings(tmp_path, path_to_input=str(folder), initializer_type="gbif")
    assert [file.name for file in list_files(settings)] == ["multimedia.txt", "occurrence.txt"]
    general = make_settings(tmp_path, path_to_input=str(folder))
    assert len(list_files(general)) == 4


def test_multimedia_alone_is_enough(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    table = read(tmp_path, folder / "multimedia.txt", initializer_type="gbif")
    assert table.height == 5
    assert table[IS_WANTED].all()
    table = read(tmp_path, SAMPLE, initializer_type="gbif")
    assert table.height == 1619
    assert table["source_id"][0] == "617555570"


def test_a_zip_without_the_table_says_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "simple.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0001.csv", "gbifID\tspecies\n")
    with pytest.raises(InputError, match=r"no multimedia\.txt; its files are 0001\.csv"):
        read(tmp_path, path, initializer_type="gbif")


def test_a_broken_zip_is_one_sentence(tmp_path: Path) -> None:
    path = as_zip(tmp_path)
    whole = bytearray(path.read_bytes())
    at = whole.index(b"multimedia.txt") + 40
    whole[at : at + 20] = bytes(20)
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"cannot be read to its end .* mend or replace it"):
        read(tmp_path, path, initializer_type="gbif")
