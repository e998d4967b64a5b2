"""Tools in the workflow: after the download, in order, only for what is new; and your own ones."""

import json
import os
import re

import polars as pl
import pytest

from distributed_downloader import Dataset, apply_tools
from distributed_downloader.errors import ConfigError
from distributed_downloader.fleet.plan import HostPlan, Special, Trick
from tests.workflow.conftest import CHECKOUT

CHAIN = ["image_verification", "duplication_based", "size_based", "resize"]


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
    parameters = {"threshold_size": 100, "new_resize_size": 64}
    workflow = new_workflow(fleet, fleet.urls(), tools_parameters=parameters)
    workflow.finish()
    assert workflow.states() == {"ok": 26}
    broken = damage_one(workflow)

    workflow.config["tools"] = CHAIN
    said = workflow.finish()
    order = [tool for tool in re.findall(r"(\w+): [\d,]+ images? done", said) if tool in CHAIN]
    assert order == CHAIN
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

    asked = len(fleet.accesses())
    workflow.finish()  # the corrupted one is fetched again, and nothing else
    assert set(fleet.accesses()[asked:]["path"]) - {"/robots.txt"} == {path_of(workflow, broken)}
    assert workflow.states() == {"ok": 12, "removed": 14}
    assert longest_sides(workflow, 12) <= 64

    said = workflow.finish("restore", "--config", "tool=size_based")
    assert "6 images that size_based removed are back" in said
    assert workflow.states() == {"ok": 18, "removed": 8}


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


OLD_MANNER = """
import os, signal, subprocess
import pandas
from distributed_downloader.tools import (
    DefaultScheduler, FilterRegister, MPIRunnerTool, PythonFilterToolBase, RunnerRegister,
    SchedulerRegister,
)

@FilterRegister("old_manner")
class OldFilter(PythonFilterToolBase):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.filter_name = "old_manner"

    def run(self):
        rows = [row for batch in self.batches() for row in self.images(batch).collect().to_dicts()]
        columns = ["uuid", "source_id", "server_name", "partition_id"]
        self.save_filter(pandas.DataFrame(rows)[columns])

@SchedulerRegister("old_manner")
class OldScheduler(DefaultScheduler):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.filter_name = "old_manner"

@RunnerRegister("old_manner")
class OldRunner(MPIRunnerTool):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.filter_name = "old_manner"
        self.threshold = cfg["tools_parameters"]["threshold_size"]
        self.own = os.path.join(cfg.get_folder("tools_folder"), self.filter_name)
        self.data_scheme = ["uuid", "source_id"]

    def apply_filter(self, filtering_df, file_name):
        subprocess.run(f"env -0 > {self.own}/variables", shell=True, check=True)
        with open(f"{self.own}/calls", "a") as calls:
            calls.write(f"{os.path.dirname(file_name)} {len(filtering_df)} {self.threshold}\\n")
        if not os.path.exists(f"{self.own}/killed") and os.path.exists(f"{self.own}/first"):
            open(f"{self.own}/killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        open(f"{self.own}/first", "w").close()
        return len(filtering_df)
"""


def own_rule(tool):
    return f"rule {tool}:\n    input:\n        ran_tool({tool!r}),\n    localrule: True\n"


@pytest.fixture
def own_tools(tmp_path):
    """The README's example, copied out of it, and a tool in the predecessor's manner."""
    readme = (CHECKOUT / "README.md").read_text()
    folder = tmp_path / "my_tools"
    folder.mkdir()
    for name, text in re.findall(r"```\w+\n# my_tools/(\S+)\n(.*?)```", readme, re.S):
        (folder / name).write_text(text)
    assert {path.name for path in folder.iterdir()} == {"brightness.py", "brightness.smk"}
    (folder / "old_manner.py").write_text(OLD_MANNER)
    (folder / "old_manner.smk").write_text(own_rule("old_manner"))
    return folder


def test_tools_of_ones_own_are_two_files_and_go_on_after_a_kill(
    start_fleet, new_workflow, own_tools
):
    fleet = start_fleet(
        HostPlan(name="a.museum.test", address="127.0.14.4", images=20, photos="tiny"),
    )
    workflow = new_workflow(
        fleet,
        fleet.urls(),
        tools_parameters={"folder": str(own_tools), "workers_per_node": 1},
    )
    assert "brightness: 20 images done" in workflow.finish("brightness")
    tables = pl.read_parquet(
        workflow.paths.tools / "brightness" / "table" / "*" / "*" / "*.parquet"
    )
    assert len(tables) == 20
    assert set(tables["uuid"]) == set(workflow.successes()["uuid"])
    assert tables["brightness"].is_between(0, 255).all()

    own = workflow.paths.tools / "old_manner"
    assert workflow.run("old_manner").returncode != 0  # the second of three partitions kills it
    assert len((own / "calls").read_text().splitlines()) == 2
    assert sum(len(f.read_text().splitlines()) - 1 for f in own.glob("verification/*.csv")) == 1
    workflow.finish("old_manner")
    calls = (own / "calls").read_text().splitlines()
    assert (len(calls), len(set(calls))) == (4, 3)  # only the one that was killed was done again

    variables = dict(
        line.split("=", 1) for line in (own / "variables").read_text().split("\0") if "=" in line
    )
    assert {name for name in variables if name.startswith("TOOLS_")} == {
        f"TOOLS_{key}" for key in ("NUM_WORKERS", "MAX_NODES", "WORKERS_PER_NODE", "CPU_PER_WORKER")
    } | {"TOOLS_THRESHOLD_SIZE", "TOOLS_NEW_RESIZE_SIZE"}
    assert variables["OUTPUT_TOOLS_FOLDER"] == str(workflow.paths.tools)
    assert not {name for name in variables if name.startswith("DOWNLOADER_")} - {"DOWNLOADER_RUN"}

    config = workflow.folder / "config.yaml"
    apply_tools(config, "old_manner")
    assert (own / "calls").read_text().splitlines() == calls
    with pytest.raises(ConfigError, match=r"no tool 'old_maner'.*Did you mean old_manner\?"):
        apply_tools(config, "old_maner")
