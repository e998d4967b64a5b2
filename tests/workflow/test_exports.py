"""Every export and what looks at the images, over one downloaded dataset."""

import json
import os

import fsspec
import mlcroissant
import polars as pl
import pytest
from moto.server import ThreadedMotoServer

from distributed_downloader.fleet.plan import HostPlan
from tests.workflow.shards import keys_of

EXPORTS = (
    "contact_sheet",
    "export_croissant",
    "export_files",
    "export_parquet",
    "export_webdataset",
)


@pytest.fixture
def storage(monkeypatch):
    """A store of objects on loopback, as S3 is; what its clients need to know."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    known = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in known.items():
        monkeypatch.setitem(os.environ, name, value)
    fsspec.filesystem("s3").mkdir("bucket")
    yield known
    server.stop()


@pytest.fixture
def urls(start_fleet):
    """Two servers, and the same image at another address."""
    fleet = start_fleet(
        HostPlan(name="a.museum.test", address="127.0.15.1", images=10, photos="small"),
        HostPlan(name="b.garden.test", address="127.0.15.2", images=10, photos="small"),
    )
    return fleet, [*fleet.urls(), fleet.urls()[0].replace("/photos/", "/copies/")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what mlcroissant calls
def test_look_alikes_go_and_one_command_makes_every_shape_of_the_rest_far_away(
    urls, new_workflow, storage, tmp_path
):
    parameters = {"export_target": "s3://bucket/birds", "near_remove": True}
    tools = ["near_duplicates", "compact"]
    workflow = new_workflow(*urls, tools=tools, tools_parameters=parameters)
    said = workflow.finish()
    assert "near_duplicates: 21 images done, 1 removed" in said
    assert "compact: 1 image done" in said
    assert workflow.states() == {"ok": 20, "removed": 1}
    said = workflow.finish(*EXPORTS)
    assert [tool for tool in EXPORTS if f"{tool}: 20 images done" in said] == list(EXPORTS)

    tools, stored = workflow.paths.tools, sorted(workflow.successes()["uuid"])
    groups = pl.read_parquet(tools / "near_duplicates" / "groups.parquet")
    assert set(groups.filter("removed")["uuid_main"]) <= set(stored)
    removed = pl.read_parquet(next(workflow.paths.images.rglob("removed.parquet")))
    assert removed.select("tool", "refetch").rows() == [("near_duplicates", False)]
    assert removed["file"].to_list() == [None]  # its bytes are reclaimed
    assert len(list((tools / "contact_sheet" / "sheets").glob("*.jpg"))) == 2
    about = mlcroissant.Dataset(workflow.paths.root / "croissant.json").metadata
    assert not about.ctx.issues.errors
    assert all("schema.org/license" in said for said in about.ctx.issues.warnings)  # a list of URLs

    far = fsspec.filesystem("s3", skip_instance_cache=True)
    written = {path: far.cat_file(path) for path in far.find("bucket/birds")}
    for number, path in enumerate(path for path in written if path.endswith(".tar")):
        (tmp_path / f"{number}.tar").write_bytes(written[path])
    assert keys_of(tmp_path.glob("*.tar")) == stored
    tables = [pl.read_parquet(body) for path, body in written.items() if ".parquet" in path]
    assert sorted(pl.concat(tables)["uuid"]) == stored
    assert len([path for path in written if path.endswith(".jpg")]) == 20
    for tool in ("export_webdataset", "export_parquet", "export_files"):
        assert json.loads(written[f"bucket/birds/{tool}/shards.json"])["images"] == 20
