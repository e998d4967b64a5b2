"""Files that are damaged after the fact: verify says which, and a rerun fetches just their rows."""

import os
from urllib.parse import urlsplit

import h5py
import polars as pl
import pytest

from distributed_downloader.fleet.plan import FleetPlan, HostPlan, Special, Trick
from distributed_downloader.fleet.running import running_fleet
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.storage.dataset import Dataset
from tests.workflow.stages import Stages
from tests.workflow.test_crash_points import asked, config_of

HOST = HostPlan(
    name="a.one.test",
    address="127.0.41.1",
    images=48,
    photos="tiny",
    specials=(Special(trick=Trick.NOT_FOUND, share=0.25),),
)


@pytest.fixture
def finished(tmp_path):
    """A finished output folder of six batches: stages, its config, and its servers."""
    stages = Stages()
    with running_fleet(FleetPlan(hosts=(HOST,))) as fleet:
        config = config_of(fleet, tmp_path / "out") | {"profile": {"samples": 0}}
        assert stages.play(config, "partition", "profile", "waves", "verify") == 0
        yield stages, config, fleet


def rows_of(paths, number, *states):
    """Host and path of the rows of a batch that are in one of these states."""
    ledger = pl.read_parquet(paths.ledger).filter(
        pl.col("state").is_in(states), partition_id=number
    )
    (batch,) = (Batch(name, number) for name in ledger["server_name"].unique())
    urls = pl.read_parquet(paths.batch_urls(batch), hive_partitioning=False)
    parts = [urlsplit(url) for url in urls.join(ledger, on="uuid")["identifier"]]
    return [(part.hostname, part.path) for part in parts]


def flip_first_image(file):
    """Change a byte of it; the path of the row that it belongs to."""
    with h5py.File(file, "r+") as shard:
        shard["data"][0] ^= 1
        uuid = shard["uuid"][0].decode()
    table = pl.read_parquet(file.with_name("successes.parquet"), hive_partitioning=False)
    (url,) = table.filter(uuid=uuid)["identifier"]
    return [("a.one.test", urlsplit(url).path)]


def test_exactly_the_rows_of_damaged_files_are_fetched_again(finished, tmp_path):
    stages, config, fleet = finished
    paths = OutputPaths.of(tmp_path / "out")
    folders = sorted(paths.images.glob("*/partition_id=*"))
    before = len(fleet.accesses())
    everything = pl.read_parquet(paths.ledger).drop("error_code").sort("uuid")

    lost = flip_first_image(folders[0] / "images-0.h5")
    lost += rows_of(paths, 1, "ok")
    (folders[1] / "images-0.h5").unlink()
    lost += rows_of(paths, 2, "ok")
    os.truncate(folders[2] / "successes.parquet", 500)
    lost += rows_of(paths, 3, "failed_final")
    (folders[3] / "errors.parquet").unlink()
    (folders[4] / ".tmp-1-images-9.h5").write_text("an orphan")

    assert stages.play(config, "verify") == 1
    said = (paths.root / "said.txt").read_text()
    for number, name in enumerate(("images-0.h5", "images-0.h5", "successes", "errors")):
        assert f"partition_id={number}/{name}" in said
    assert "Traceback" not in said

    assert stages.play(config, "waves", "verify") == 0
    assert sorted(asked(fleet.accesses()[before:])) == sorted(lost)
    assert pl.read_parquet(paths.ledger).drop("error_code").sort("uuid").equals(everything)
    with Dataset(paths.root) as dataset:
        for record in dataset:
            record.image.load()
