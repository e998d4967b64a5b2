"""Lists that live in a bucket or on a web server are read like those that lie here."""

import json
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import polars as pl
import pytest
from moto.server import ThreadedMotoServer

from distributed_downloader.errors import InputError
from distributed_downloader.lists.partition import partition_urls
from distributed_downloader.lists.remote import is_remote, remote_files
from distributed_downloader.lists.source import is_same_list
from distributed_downloader.settings import Settings
from tests.unit.conftest import make_settings

KEYS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
CSV = b"url,n\nhttp://a.org/1,1\nhttp://b.org/2,2\n"


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """An empty bucket; the environment says where it is and who asks."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, value)
    name = f"lists-{abs(hash(request.node.name)) % 10**8}"
    s3 = boto3.client("s3", endpoint_url=s3_server)
    s3.create_bucket(Bucket=name)
    yield boto3.resource("s3", endpoint_url=s3_server).Bucket(name)
    s3.close()


def at(tmp_path: Path, address: str, **config: Any) -> Settings:
    config.setdefault("input_options", {"skip_instance_cache": True} if "s3" in address else {})
    return make_settings(tmp_path, path_to_input=address, **config)


def rows_of(settings: Settings) -> list[str]:
    files = sorted(settings.paths.urls.glob("*/*/urls.parquet"))
    return [
        url
        for file in files
        for url in pl.read_parquet(file, hive_partitioning=False)["identifier"]
    ]


def test_what_is_an_address() -> None:
    assert is_remote("s3://bucket/x.csv")
    assert is_remote("https://a.org/x.csv")
    assert not is_remote("/data/x.csv")
    assert not is_remote("C:/x.csv")


def test_a_file_in_a_bucket_is_a_list(tmp_path: Path, bucket: Any) -> None:
    bucket.put_object(Key="deep/list.csv", Body=CSV)
    settings = at(tmp_path, f"s3://{bucket.name}/deep/list.csv")
    assert settings.path_to_input.startswith("s3://")  # and no path below the working directory
    assert partition_urls(settings).fetchable == 2
    assert rows_of(settings) == ["http://a.org/1", "http://b.org/2"]
    (file,) = json.loads(settings.paths.source.read_text())["files"]
    assert file["path"] == f"s3://{bucket.name}/deep/list.csv"
    assert len(file["sha256"]) == 64
    assert file["version"]
    assert not [path for path in settings.paths.urls.rglob("*") if path.name == "list.csv"]


def test_a_folder_and_a_glob_in_a_bucket(tmp_path: Path, bucket: Any) -> None:
    bucket.put_object(Key="in/a.csv", Body=CSV)
    bucket.put_object(Key="in/deep/a.csv", Body=b"url\nhttp://c.org/3\n")
    bucket.put_object(Key="in/_SUCCESS", Body=b"")
    bucket.put_object(Key="in/readme.md", Body=b"# no list")
    assert partition_urls(at(tmp_path, f"s3://{bucket.name}/in")).fetchable == 3
    glob = at(tmp_path / "glob", f"s3://{bucket.name}/in/*.csv")
    assert partition_urls(glob).fetchable == 2


def test_an_archive_in_a_bucket_is_joined(tmp_path: Path, bucket: Any) -> None:
    bucket.put_object(
        Key="dwca/multimedia.txt", Body=b"gbifID\ttype\tidentifier\n1\tStillImage\thttp://a.org/1\n"
    )
    bucket.put_object(Key="dwca/occurrence.txt", Body=b"gbifID\tspecies\n1\tParus major\n")
    settings = at(tmp_path, f"s3://{bucket.name}/dwca", initializer_type="gbif")
    partition_urls(settings)
    (file,) = settings.paths.urls.glob("*/*/urls.parquet")
    assert pl.read_parquet(file, hive_partitioning=False)["species"].to_list() == ["Parus major"]


def test_a_list_that_changed_in_its_bucket_is_noticed(tmp_path: Path, bucket: Any) -> None:
    bucket.put_object(Key="list.csv", Body=CSV)
    settings = at(tmp_path, f"s3://{bucket.name}/list.csv")
    partition_urls(settings)
    source = json.loads(settings.paths.source.read_text())
    assert is_same_list(settings, source)
    bucket.put_object(Key="list.csv", Body=CSV.replace(b"/2", b"/3"))
    assert not is_same_list(settings, source)
    bucket.Object("list.csv").delete()
    assert is_same_list(settings, source)  # gone: the folder has all its rows


def test_what_is_not_there_is_one_sentence(tmp_path: Path, bucket: Any) -> None:
    with pytest.raises(InputError, match=r"s3://.*/nothing"):
        remote_files(at(tmp_path, f"s3://{bucket.name}/nothing"))
    with pytest.raises(InputError, match=r"Cannot read nosuch://a/b: .*nosuch"):
        remote_files(at(tmp_path, "nosuch://a/b"))


def test_what_is_broken_is_told_by_its_address(tmp_path: Path, bucket: Any) -> None:
    bucket.put_object(Key="list.csv", Body=b"a,b\n1,2\n")
    with pytest.raises(
        InputError, match=rf"^s3://{bucket.name}/list\.csv has no column identifier"
    ):
        partition_urls(at(tmp_path, f"s3://{bucket.name}/list.csv"))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "web"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


def test_a_list_on_a_web_server(tmp_path: Path, web: tuple[str, Path]) -> None:
    address, folder = web
    (folder / "list.csv").write_bytes(CSV)
    settings = at(tmp_path, f"{address}/list.csv?format=csv")
    assert partition_urls(settings).fetchable == 2
    assert is_same_list(settings, json.loads(settings.paths.source.read_text()))
    with pytest.raises(InputError, match=r"Cannot read .*gone\.csv"):
        remote_files(at(tmp_path, f"{address}/gone.csv"))


def test_an_archive_on_a_web_server(tmp_path: Path, web: tuple[str, Path]) -> None:
    address, folder = web
    with zipfile.ZipFile(folder / "0001.zip", "w") as archive:
        archive.writestr(
            "multimedia.txt", "gbifID\ttype\tidentifier\n1\tStillImage\thttp://a.org/1\n"
        )
    settings = at(tmp_path, f"{address}/0001.zip", initializer_type="gbif")
    assert partition_urls(settings).fetchable == 1


def test_hugging_face_addresses_have_their_file_system() -> None:
    import fsspec  # noqa: PLC0415

    assert fsspec.get_filesystem_class("hf").__name__ == "HfFileSystem"
