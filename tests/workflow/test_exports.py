"""Every export and what looks at the images, over one downloaded dataset."""

import gc
import json
import os
import warnings

import fsspec
import polars as pl
import pytest
import webdataset
from moto.server import ThreadedMotoServer

from distributed_downloader.configuration.config import resolve_config, settings_of
from distributed_downloader.fleet.plan import HostPlan
from tests.unit.toolbox.run_tool import ToolInProcess

# Their rules differ by a name only: the workflow runs two of them, the rest share its dataset.
IN_PROCESS = ("export_webdataset", "export_files", "export_croissant", "contact_sheet")


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


def keys_of(bodies, folder):
    """The keys that the webdataset library finds in these tar shards."""
    for number, body in enumerate(bodies):
        (folder / f"{number}.tar").write_bytes(body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the files to the collector
        dataset = webdataset.WebDataset(f"{folder}/{{0..{number}}}.tar", shardshuffle=False)
        keys = {sample["__key__"] for sample in dataset if sample["jpg"] and sample["json"]}
        del dataset
        gc.collect()
    return keys


def test_one_dataset_in_every_shape_its_exports_far_away(
    start_fleet, new_workflow, storage, tmp_path
):
    fleet = start_fleet(
        HostPlan(name="a.museum.test", address="127.0.15.1", images=10, photos="small"),
        HostPlan(name="b.garden.test", address="127.0.15.2", images=10, photos="small"),
    )
    urls = fleet.urls()
    again = urls[0].replace("/photos/", "/copies/")  # the same image at another address
    parameters = {"export_target": "s3://bucket/birds"}
    workflow = new_workflow(fleet, [*urls, again], tools_parameters=parameters)
    workflow.finish("near_duplicates", "export_parquet")
    settings = settings_of(resolve_config(workflow.config))
    for tool in IN_PROCESS:
        assert ToolInProcess(settings, tool).run()["left"] == 0

    tools, stored = workflow.paths.tools, set(workflow.successes()["uuid"])
    assert len(stored) == 21
    groups = pl.read_parquet(tools / "near_duplicates" / "groups.parquet")
    twins = workflow.successes().filter(pl.col("identifier").is_in([urls[0], again]))
    assert set(twins["uuid"]) <= set(groups["uuid"])
    assert len(list((tools / "contact_sheet" / "sheets").glob("*.jpg"))) == 2
    assert (workflow.paths.root / "croissant.json").exists()

    far = fsspec.filesystem("s3", skip_instance_cache=True)
    written = {path: far.cat_file(path) for path in far.find("bucket/birds")}
    tars = [body for path, body in written.items() if path.endswith(".tar")]
    assert keys_of(tars, tmp_path) == stored
    tables = [pl.read_parquet(body) for path, body in written.items() if ".parquet" in path]
    assert set(pl.concat(tables)["uuid"]) == stored
    assert len([path for path in written if path.endswith(".jpg")]) == 21
    for tool in ("export_webdataset", "export_parquet", "export_files"):
        assert json.loads(written[f"bucket/birds/{tool}/shards.json"])["images"] == 21
