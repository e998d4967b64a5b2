"""Tools in the workflow: after the download, in order, only for what is new; and your own ones."""

import json
import os
import re
import sys
import tarfile
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from distributed_downloader import Dataset, apply_tools
from distributed_downloader.errors import ConfigError
from distributed_downloader.fleet.plan import HostPlan, Special, Trick
from tests.unit.images_folder import ONE, ImagesFolder, picture
from tests.workflow.conftest import CHECKOUT
from tests.workflow.own_tools import PATIENT, write_tool
from tests.workflow.shards import keys_of

SEVERAL_RUNS = pytest.mark.timeout(600)  # on a busy machine; each run has a limit of its own
CHAIN = ["image_verification", "duplication_based", "size_based", "resize", "export_webdataset"]


@SEVERAL_RUNS
def test_the_whole_chain_finds_what_was_planted_and_runs_again_only_for_what_is_new(
    start_fleet, new_workflow
):
    away = Special(trick=Trick.REDIRECT, share=1.0, to="http://a.museum.test:{port}/photos/{name}")
    fleet = start_fleet(
        HostPlan(name="a.museum.test", address="127.0.14.1", images=12, photos="small"),
        HostPlan(
            name="copies.one.test",
            address="127.0.14.2",
            images=8,
            photos="small",
            specials=(away,),
        ),
        HostPlan(name="icons.two.test", address="127.0.14.3", images=6, photos="tiny"),
    )
    parameters = {"threshold_size": 100, "new_resize_size": 64, "export_resized": True}
    workflow = new_workflow(fleet, fleet.urls(), tools_parameters=parameters)
    workflow.finish()
    assert workflow.states() == {"ok": 26}
    broken = damage_one(workflow)

    workflow.config["tools"] = CHAIN
    said = workflow.finish()
    order = [tool for tool in re.findall(r"(\w+): [\d,]+ images? done", said) if tool in CHAIN]
    assert order == CHAIN
    assert all(max(one) < min(next_one) for one, next_one in pairwise(finished(workflow)))
    assert workflow.states() == {"ok": 11, "pending": 1, "removed": 14}
    assert "size_based: too small" in said
    summary = json.loads(workflow.paths.summary.read_text())
    assert {one["tool"]: one["rows"] for one in summary["removals"]} == {
        "image_verification": 1,
        "duplication_based": 8,
        "size_based": 6,
    }
    assert 'data-tool="duplication_based"' in workflow.paths.report.read_text()
    listed = pl.read_csv(workflow.paths.tools / "image_verification" / "corrupted" / "*.csv")
    assert listed["uuid"].to_list() == [broken]
    assert longest_sides(workflow, 11) <= 64
    assert shards(workflow) == sorted(workflow.successes()["uuid"])
    assert longest_side_in_shards(workflow) <= 64

    workflow.config["tools"] = [CHAIN[0], *CHAIN[-2:]]
    asked = len(fleet.accesses())
    workflow.finish()  # the corrupted one is fetched again, and nothing else
    assert set(fleet.accesses()[asked:]["path"]) - {"/robots.txt"} == {path_of(workflow, broken)}
    assert workflow.states() == {"ok": 12, "removed": 14}
    assert longest_sides(workflow, 12) <= 64
    assert shards(workflow) == sorted(workflow.successes()["uuid"])
    assert broken in shards(workflow)

    said = workflow.finish("restore", "--config", "tool=size_based")
    assert "6 images that size_based removed are back" in said
    assert workflow.states() == {"ok": 18, "removed": 8}


def finished(workflow):
    """When each tool was done with each partition: none begins before the one before it ends."""
    for tool in CHAIN:
        marks = pl.read_csv(workflow.paths.tools / tool / "verification" / "*.csv")
        yield marks["finished"].to_list()


def damage_one(workflow):
    """Change a byte of an image that no other row has; its uuid."""
    images = workflow.successes()
    alone = images.filter(
        pl.col("hashsum_original").is_unique() & pl.col("server").str.starts_with("a.museum")
    )
    uuid = alone["uuid"][0]
    with Dataset(workflow.paths.root) as dataset:
        body = dataset.bytes(uuid)
    [shard] = [file for file in workflow.paths.images.rglob("*.h5") if body in file.read_bytes()]
    stored, status = shard.read_bytes(), shard.stat()
    at = stored.index(body) + len(body) // 2
    shard.write_bytes(stored[:at] + bytes([stored[at] ^ 0xFF]) + stored[at + 1 :])
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))  # else verify would look into it
    return uuid


def path_of(workflow, uuid):
    identifier = workflow.successes().filter(uuid=uuid)["identifier"].item()
    return "/" + identifier.split("/", 3)[3]


def longest_sides(workflow, images):
    """Of the resized images, of which there are so many."""
    with Dataset(workflow.paths.tools / "resize") as dataset:
        assert len(dataset) == images
        return max(max(record.image.size) for record in dataset)


def shards(workflow):
    """What is in them."""
    return keys_of((workflow.paths.tools / "export_webdataset" / "data").glob("*.tar"))


def longest_side_in_shards(workflow):
    """Of the images in them."""
    sides = []
    for file in (workflow.paths.tools / "export_webdataset" / "data").glob("*.tar"):
        with tarfile.open(file) as shard:
            images = [shard.extractfile(name) for name in shard.getnames() if "json" not in name]
            sides += [max(Image.open(image).size) for image in images]
    return max(sides)


@pytest.mark.parametrize(
    ("last_line", "sentence"),
    [
        ("", "The tool stepless has no runner: {file} registers no class with @RunnerRegister"),
        ("1 / 0", "{file} cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_a_tool_that_is_not_whole_is_one_sentence(stages, tmp_path, last_line, sentence):
    folder = ImagesFolder(tmp_path / "out")
    folder.add(ONE, [picture(1)])
    write_tool(tmp_path, "stepless", STEPLESS + last_line)
    folder.set(folder=str(tmp_path))
    assert stages.play(folder.settings.raw, "stepless") == 1
    said = (folder.paths.root / "said.txt").read_text()
    assert said.startswith(f"error: {sentence.format(file=tmp_path / 'stepless.py')}")
    assert len(said.splitlines()) == 1


STEPLESS = """
from distributed_downloader.tools import (
    DefaultScheduler, FilterRegister, PythonFilterToolBase, SchedulerRegister,
)
FilterRegister("stepless")(PythonFilterToolBase)
SchedulerRegister("stepless")(DefaultScheduler)
"""

OLD_MANNER = """
import os, signal, subprocess
import pandas as pd
from distributed_downloader.tools.config import Config
from distributed_downloader.tools.filters import FilterRegister, PythonFilterToolBase
from distributed_downloader.tools.runners import MPIRunnerTool, RunnerRegister
from distributed_downloader.tools.schedulers import DefaultScheduler, SchedulerRegister

@FilterRegister("old_manner")
class OldFilter(PythonFilterToolBase):
    def __init__(self, cfg: Config):
        super().__init__(cfg)
        self.filter_name = "old_manner"

    def run(self):
        images, found = self.downloaded_images_path, []
        for server in os.listdir(images):
            for partition in os.listdir(os.path.join(images, server)):
                found.append([server.split("=")[1], partition.split("=")[1]])
        folder = os.path.join(self.tools_path, self.filter_name, "filter_table")
        os.makedirs(folder, exist_ok=True)
        columns = ["server_name", "partition_id"]
        pd.DataFrame(found, columns=columns).to_csv(folder + "/table.csv", index=False)
        self.logger.info(f"{len(found)} partitions")

@SchedulerRegister("old_manner")
class OldScheduler(DefaultScheduler):
    def __init__(self, cfg: Config):
        super().__init__(cfg)
        self.filter_name = "old_manner"
        self.scheme = ["server_name", "partition_id"]

@RunnerRegister("old_manner")
class OldRunner(MPIRunnerTool):
    def __init__(self, cfg: Config):
        super().__init__(cfg)
        self.filter_name = "old_manner"
        self.data_scheme = ["server_name", "partition_id"]
        self.verification_scheme = ["server_name", "partition_id"]
        self.total_time = 150
        self.threshold = self.config["tools_parameters"]["threshold_size"]
        self.mine = os.path.join(cfg.get_folder("tools_folder"), self.filter_name)

    def apply_filter(self, filtering_df: pd.DataFrame, server_name: str, partition_id: str) -> int:
        self.is_enough_time()
        folder = f"server_name={server_name}/partition_id={partition_id}"
        images = pd.read_parquet(f"{self.downloaded_images_path}/{folder}/successes.parquet")
        subprocess.run(f"env -0 > {self.mine}/variables", shell=True, check=True)
        with open(f"{self.mine}/calls", "a") as calls:
            calls.write(f"{filtering_df.iloc[0].partition_id} {len(images)} {self.threshold}\\n")
        if not os.path.exists(f"{self.mine}/killed") and os.path.exists(f"{self.mine}/first"):
            open(f"{self.mine}/killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        open(f"{self.mine}/first", "w").close()
        return len(images)
"""


@pytest.fixture
def own_tools(tmp_path):
    """The README's example, copied out of it, and a tool in the predecessor's manner."""
    readme = (CHECKOUT / "README.md").read_text()
    folder = tmp_path / "my_tools"
    folder.mkdir()
    for name, text in re.findall(r"```\w+\n# my_tools/(\S+)\n(.*?)```", readme, re.S):
        (folder / name).write_text(text)
    assert {path.name for path in folder.iterdir()} == {"brightness.py", "brightness.smk"}
    write_tool(folder, "old_manner", OLD_MANNER)
    write_tool(folder, "patient", PATIENT)
    return folder


@pytest.fixture
def short_job(tmp_path):
    """A launcher for a job of which Slurm says that ten seconds are left."""
    slurm = tmp_path / "slurm"
    slurm.mkdir()
    scripts = {
        "squeue": "echo 0:10",
        "mpiexec": "export SLURM_JOB_ID=17 HYDRA_RMK=user HYDRA_LAUNCHER=fork\n"
        f'export PATH="{slurm}:$PATH"\nexec {Path(sys.executable).with_name("mpiexec")} "$@"',
    }
    for name, text in scripts.items():
        (slurm / name).write_text(f"#!/bin/sh\n{text}\n")
        (slurm / name).chmod(0o755)
    return slurm / "mpiexec"


@SEVERAL_RUNS
def test_tools_of_ones_own_are_two_files_and_go_on_after_a_kill_and_when_time_is_over(
    start_fleet, new_workflow, own_tools, short_job
):
    fleet = start_fleet(
        HostPlan(name="a.museum.test", address="127.0.14.4", images=20, photos="tiny"),
    )
    workflow = new_workflow(
        fleet,
        fleet.urls(),
        tools_parameters={"folder": str(own_tools), "workers_per_node": 1, "num_workers": 1},
        output_structure={"tools_folder": "made"},
    )
    assert "brightness: 20 images done" in workflow.finish("brightness")
    tables = pl.read_parquet(
        workflow.paths.tools / "brightness" / "table" / "*" / "*" / "*.parquet"
    )
    assert len(tables) == 20
    assert set(tables["uuid"]) == set(workflow.successes()["uuid"])
    assert tables["brightness"].is_between(0, 255).all()

    in_time = workflow.finish("patient", "--set-resources", f"run_tool:mpi={short_job}")
    assert "patient: 8 images done, 2 partitions left" in in_time
    assert "patient: 12 images done" in workflow.finish("patient")
    calls = (workflow.paths.tools / "patient" / "calls").read_text().splitlines()
    assert (len(calls), len(set(calls)), calls[1]) == (4, 3, calls[2])

    own = workflow.paths.tools / "old_manner"
    assert workflow.run("old_manner").returncode != 0  # the second of three partitions kills it
    assert len((own / "calls").read_text().splitlines()) == 2
    assert sum(len(f.read_text().splitlines()) - 1 for f in own.glob("verification/*.csv")) == 1
    config = workflow.folder / "config.yaml"
    apply_tools(config, "old_manner")
    calls = (own / "calls").read_text().splitlines()
    assert (len(calls), len(set(calls))) == (4, 3)  # only the one that was killed was done again
    assert {call.split(" ", 1)[1] for call in calls} == {"8 224", "4 224"}

    variables = dict(
        line.split("=", 1) for line in (own / "variables").read_text().split("\0") if "=" in line
    )
    assert {name for name in variables if name.startswith("TOOLS_")} == {
        f"TOOLS_{key}" for key in ("NUM_WORKERS", "MAX_NODES", "WORKERS_PER_NODE", "CPU_PER_WORKER")
    } | {"TOOLS_THRESHOLD_SIZE", "TOOLS_NEW_RESIZE_SIZE"}
    assert variables["OUTPUT_TOOLS_FOLDER"] == str(workflow.paths.tools)
    assert not {name for name in variables if name.startswith("DOWNLOADER_")} - {"DOWNLOADER_RUN"}

    apply_tools(config, "old_manner")
    assert (own / "calls").read_text().splitlines() == calls
    with pytest.raises(ConfigError, match=r"no tool 'old_maner'.*Did you mean old_manner\?"):
        apply_tools(config, "old_maner")
