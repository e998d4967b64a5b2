"""A tool's job: failures are told and cost their own partition, and nothing is done twice."""

import asyncio
import os
from typing import ClassVar
from urllib.parse import quote

import polars as pl
import pytest

from distributed_downloader.durable import write_json
from distributed_downloader.errors import (
    ConfigError,
    FolderError,
    LockError,
    StorageError,
    ToolError,
)
from distributed_downloader.mpi import Solo
from distributed_downloader.paths import Batch
from distributed_downloader.tools import (
    DefaultScheduler,
    ImageRunner,
    MPIRunnerTool,
    PythonFilterToolBase,
)
from distributed_downloader.tools.base import ToolConfig
from distributed_downloader.tools.job import Job
from distributed_downloader.tools.marks import Marks
from distributed_downloader.tools.registry import (
    REGISTERS,
    FilterRegister,
    RunnerRegister,
    SchedulerRegister,
    Tool,
)
from distributed_downloader.tools.steps import job_is_due, run_scheduler
from distributed_downloader.waves.deadline import Deadline
from tests.unit.images_folder import ONE, TWO, ImagesFolder, picture

NAME = "tried"


class Runner(MPIRunnerTool):
    """Notes what it is asked for, and fails where it shall."""

    calls: ClassVar[list] = []
    fails: ClassVar[dict] = {}
    finished: ClassVar[list] = []

    def process(self, partition):
        self.calls.append(partition.batch)
        if error := self.fails.get(partition.batch):
            raise error
        return len(list(partition.images()))

    def finish(self, batches):
        self.finished.append(batches)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    steps = (PythonFilterToolBase, DefaultScheduler, Runner)
    for register, step in zip(REGISTERS, steps, strict=True):
        monkeypatch.setattr(register, "classes", {**register.classes, NAME: step})
    monkeypatch.setattr("distributed_downloader.tools.steps.tool_of", tool_of)
    for name in ("calls", "finished"):
        monkeypatch.setattr(Runner, name, [])
    monkeypatch.setattr(Runner, "fails", {})
    folder = ImagesFolder(tmp_path)
    folder.add(ONE, [picture(1), picture(2)])
    folder.add(TWO, [picture(3)])
    return folder


def tool_of(settings, name):
    return Tool(name, *(register.classes[name] for register in REGISTERS))


def test_a_partition_that_fails_is_told_the_others_go_on_and_it_alone_is_tried_again(folder):
    Runner.fails = {ONE: ValueError("no such thing")}
    with pytest.raises(
        ToolError, match=r"1 of 2 partitions: .*museum.*: ValueError: no such thing"
    ):
        folder.run(NAME)
    assert sorted(Runner.calls) == [ONE, TWO]
    assert (len(folder.marks(NAME)), Runner.finished) == (1, [])
    Runner.fails = {}
    assert folder.run(NAME)["images"] == 2
    assert Runner.calls[2:] == [ONE]
    assert Runner.finished == [[ONE, TWO]]
    assert folder.run(NAME) is None


def test_only_a_partition_with_new_images_is_done_again_and_the_end_too(folder):
    folder.run(NAME)
    folder.add(TWO, [picture(4)], wave=1)
    assert folder.run(NAME)["images"] == 2
    assert Runner.calls[2:] == [TWO]
    assert len(Runner.finished) == 2


def test_settings_of_its_own_reach_the_tool_and_changed_ones_have_it_do_everything_again(folder):
    folder.set(own={NAME: {"least": 20}, "another": {"least": 1}})
    assert DefaultScheduler(ToolConfig(folder.settings, NAME)).own_parameters == {"least": 20}
    folder.run(NAME)
    folder.set(own={NAME: {"least": 20}})
    assert folder.run(NAME) is None
    folder.set(own={NAME: {"least": 30}})
    assert folder.run(NAME)["partitions"] == 2


@pytest.mark.parametrize("step", [FilterRegister, SchedulerRegister, RunnerRegister])
def test_a_step_that_breaks_is_told_as_the_tools(folder, step):
    class Broken(step.classes[NAME]):
        def __init__(self, cfg):
            super().__init__(cfg)
            self.size = cfg["tools_parameters"]["treshold_size"]

    step.classes[NAME] = Broken
    told = rf"^The {step.step} of {NAME} failed: KeyError: 'treshold_size'$"
    with pytest.raises(ToolError, match=told):
        folder.run(NAME)


@pytest.mark.parametrize("error", [LockError("taken over"), StorageError("the disk is full")])
def test_what_no_partition_can_survive_stops_the_job(folder, error):
    Runner.fails = {ONE: error, TWO: error}
    with pytest.raises(ToolError, match=str(error)):
        folder.run(NAME)
    assert len(Runner.calls) == 1
    assert not folder.marks(NAME)


def test_a_job_that_is_out_of_time_before_anything_is_done_says_so(folder):
    late = Job(deadline=Deadline(0.0, now=lambda: 1.0), world=Waiting())
    with pytest.raises(ToolError, match="ran out of time before it was done with one partition"):
        folder.run(NAME, late)


class Waiting(Solo):
    """A world of one whose barriers let others run: the watch looks before the work begins."""

    async def barrier(self):
        await asyncio.sleep(0)


def test_a_run_that_was_taken_over_marks_nothing(folder):
    def allowed():
        raise LockError("taken over")

    with pytest.raises(ToolError, match="taken over"):
        folder.run(NAME, Job(allowed=allowed))
    assert not folder.marks(NAME)


def test_jobs_follow_each_other_while_partitions_are_left(folder, tmp_path):
    plan, done = tmp_path / "plan.json", tmp_path / "did.json"
    write_json(plan, {"is_due": True})
    assert job_is_due(plan, [], folder.settings)
    write_json(done, {"left": 3, "stopped": "out of time"})
    assert job_is_due(plan, [done], folder.settings)
    folder.set(num_workers=2)
    assert job_is_due(plan, [done], folder.settings)
    assert not job_is_due(plan, [done, done], folder.settings)
    write_json(done, {"left": 3, "stopped": "SIGTERM was received"})
    assert not job_is_due(plan, [done], folder.settings)
    write_json(done, {"left": 0, "stopped": None})
    assert not job_is_due(plan, [done], folder.settings)


def test_a_function_of_images_makes_a_table_on_several_threads(folder):
    class Sizes(ImageRunner):
        def process_image(self, image):
            return {"width": image.image.width} if image.uuid != "a-1" else None

    RunnerRegister.classes[NAME] = Sizes
    folder.set(cpu_per_worker=3)
    assert folder.run(NAME)["images"] == 3
    tables = pl.read_parquet(folder.paths.tools / NAME / "table" / "*" / "*" / "*.parquet")
    assert dict(tables.select("uuid", "width").iter_rows()) == {"a-0": 60, "b-0": 60}


def test_the_predecessors_method_gets_a_table_of_pandas_and_the_place(folder):
    told = []

    class Old(MPIRunnerTool):
        def apply_filter(self, filtering_df, server_name, partition_id):
            self.is_enough_time()
            told.append((list(filtering_df["uuid"]), server_name, partition_id, self.mpi_rank))

    class OldByPath(MPIRunnerTool):
        def apply_filter(self, filtering_df, file_path):
            told.append((len(filtering_df), file_path))
            return len(filtering_df)

    RunnerRegister.classes[NAME] = Old
    assert folder.run(NAME)["images"] == 0  # it does not say
    RunnerRegister.classes[NAME] = OldByPath
    Marks(folder.paths.tools / NAME / "verification").forget()
    assert folder.run(NAME)["images"] == 3
    assert told == [
        (["a-0", "a-1"], "a.museum.test", 0, 0),
        (["b-0"], "b.garden.test", 0, 0),
        (2, str(folder.paths.batch_images(ONE) / "successes.parquet")),
        (1, str(folder.paths.batch_images(TWO) / "successes.parquet")),
    ]


def test_a_table_of_folders_picks_all_images_of_their_partitions(folder):
    """As filters of the predecessor write it."""
    port = Batch("c.test:8080", 1)
    folder.add(port, [picture(5), picture(6)])

    class Folders(PythonFilterToolBase):
        def run(self):
            lines = [f"{quote(b.server_name, safe='')},{b.partition_id}" for b in self.batches()]
            text = "\n".join(["server_name,partition_id", *lines])
            (self.filter_table / "table.csv").write_text(text)

    FilterRegister.classes[NAME] = Folders
    assert folder.run(NAME)["images"] == 5
    assert folder.run(NAME) is None
    folder.add(port, [picture(7)], wave=1)
    assert folder.run(NAME)["images"] == 3
    assert Runner.calls[3:] == [port]


def test_steps_know_the_predecessors_words(folder):
    config = ToolConfig(folder.settings, NAME)
    step = DefaultScheduler(config)
    assert step.filter_name == NAME
    assert step.tools_path == config.get_folder("tools_folder") == str(folder.paths.tools)
    assert step.downloaded_images_path == config.get_folder("images_folder")
    assert step.urls_path == config.get_folder("urls_folder")
    assert step.total_workers == 2
    assert config["tools_parameters"]["threshold_size"] == 224
    with pytest.raises(ConfigError, match="no folder 'nothing'"):
        config.get_folder("nothing")
    folder.run(NAME)
    assert run_scheduler(folder.settings, NAME)["partitions"] == 0


def test_a_damaged_table_is_named_with_the_way_out(tmp_path):
    folder = ImagesFolder(tmp_path)
    folder.add(ONE, [picture(1)])
    table = folder.paths.batch_images(ONE) / "successes.parquet"
    os.truncate(table, 500)
    with pytest.raises(FolderError, match=rf"{table} is damaged .*run the same command again"):
        folder.run("size_based")
