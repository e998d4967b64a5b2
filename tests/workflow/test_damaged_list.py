"""Tables of the list that are damaged after the fact: one sentence, and its way out works."""

import os
import shutil
from pathlib import Path

import polars as pl
import pytest

from distributed_downloader.fleet.plan import FleetPlan, HostPlan
from distributed_downloader.fleet.running import running_fleet
from distributed_downloader.paths import OutputPaths
from tests.workflow.stages import Stages
from tests.workflow.test_crash_points import config_of

HOST = HostPlan(name="a.one.test", address="127.0.45.1", images=32, photos="tiny")
WAY_OUT = "run the same command again, which cuts the list anew, as it was; images stay"


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


SPOILED = [
    ("partitions.parquet", flip),
    ("partitions.parquet", cut),
    ("rejected.parquet", flip),
    ("duplicates.parquet", cut),
    ("source.json", cut),
    ("server_name=*/partition_id=1/urls.parquet", flip),
    ("server_name=*/partition_id=2/urls.parquet", cut),
    ("server_name=*/partition_id=3/urls.parquet", os.unlink),
]


class Folder:
    """An output folder, its stages and what they say."""

    def __init__(self, root, fleet):
        listed = [*fleet.urls(), fleet.urls()[0], "ftp://a.one.test/1.jpg"]
        self.config = config_of(fleet, root) | {"profile": {"samples": 0}}
        (root.parent / "urls.txt").write_text("\n".join(listed) + "\n")
        self.config["path_to_input"] = str(root.parent / "urls.txt")
        self.stages, self.paths, self.fleet = Stages(), OutputPaths.of(root), fleet

    def play(self, *stages):
        return self.stages.play(self.config, *stages)

    def said(self, *stages):
        """What a stage that fails says."""
        (self.paths.root / "said.txt").unlink(missing_ok=True)
        assert self.play(*stages) == 1
        return (self.paths.root / "said.txt").read_text()

    def spoil(self, name, how):
        (file,) = self.paths.urls.glob(name)
        how(file)
        return file

    def take_the_way_out(self, said):
        """Remove what the sentence tells to remove, and nothing else."""
        doomed = said.partition("remove ")[2].partition(" and run")[0].split(" and ")
        assert 0 < len(doomed) < 3
        for file in doomed:
            Path(file).unlink()

    def ledger(self):
        return pl.read_parquet(self.paths.ledger).sort("uuid")


@pytest.fixture(scope="module")
def fleet():
    with running_fleet(FleetPlan(hosts=(HOST,))) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def finished(fleet, tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("finished") / "out", fleet)
    assert folder.play("partition", "profile", "waves", "verify") == 0
    return folder


@pytest.mark.parametrize(("name", "how"), SPOILED)
def test_verify_names_it_and_the_list_is_cut_anew_and_nothing_is_asked_again(finished, name, how):
    before, asked = finished.ledger(), len(finished.fleet.accesses())
    file = finished.spoil(name, how)
    said = finished.said("verify")
    assert said.count("error: ") == 1
    assert str(file if file.name != "urls.parquet" else file.parent.name) in said
    assert WAY_OUT in said
    assert "Traceback" not in said

    finished.take_the_way_out(said)
    assert finished.play("partition", "waves", "verify") == 0
    assert finished.ledger().equals(before)
    assert len(finished.fleet.accesses()) == asked


@pytest.mark.parametrize("how", [flip, cut, os.unlink])
def test_rows_that_cannot_be_believed_are_not_asked_for(fleet, tmp_path, how):
    """A changed byte in a URL would be another URL."""
    folder = Folder(tmp_path / "out", fleet)
    assert folder.play("partition", "profile", "schedule") == 0
    file = folder.spoil("server_name=*/partition_id=1/urls.parquet", how)
    listed = {url.rpartition(":")[2].partition("/")[2] for url in fleet.urls()}
    asked = len(fleet.accesses())
    said = folder.said("download")
    assert f"{file} is {'missing' if how is os.unlink else 'damaged'}" in said
    assert WAY_OUT in said
    assert "Traceback" not in said
    assert {path[1:] for path in fleet.accesses()[asked:]["path"]} <= listed | {"robots.txt"}

    folder.take_the_way_out(said)
    assert folder.play("partition", "waves", "verify") == 0
    ledger = folder.ledger().group_by("state").len()
    assert dict(ledger.iter_rows()) == {"ok": 32, "duplicate": 1, "rejected": 1}
    images = fleet.accesses()[asked:].filter(pl.col("path") != "/robots.txt")
    assert images["path"].n_unique() == len(images) == 32
    shutil.rmtree(folder.paths.root)
