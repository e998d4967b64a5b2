"""The three steps of a tool as the workflow calls them, and when another job of it is due."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distributed_downloader.durable import read_json
from distributed_downloader.errors import ToolError
from distributed_downloader.settings import Settings
from distributed_downloader.tools.base import ToolConfig
from distributed_downloader.tools.filters import clear_filter_table, read_partitions
from distributed_downloader.tools.job import Job
from distributed_downloader.tools.registry import Tool, load_tool
from distributed_downloader.tools.runners import MPIRunnerTool
from distributed_downloader.tools.schedule import plan_of, read_schedule


def tool_of(settings: Settings, name: str) -> Tool:
    """The tool's classes. Raises ConfigError."""
    return load_tool(name, settings.raw["tools_parameters"]["folder"])


def run_filter(settings: Settings, name: str) -> int:
    """Write the filter table anew; the number of images in it."""
    step = tool_of(settings, name).filter(ToolConfig(settings, name))
    clear_filter_table(step.filter_table)
    step.run()
    return sum(read_partitions(step.filter_table).values())


def run_scheduler(settings: Settings, name: str) -> dict[str, Any]:
    """Write schedule.csv; its plan, as `plan_of` has it."""
    tool, config = tool_of(settings, name), ToolConfig(settings, name)
    step = tool.scheduler(config)
    step.run()
    if not step.schedule_table.is_file():
        raise ToolError(f"The scheduler of {name} wrote no {step.schedule_table}.")
    runner = tool.runner(config)
    is_finished = not isinstance(runner, MPIRunnerTool) or runner.is_finished
    return plan_of(read_schedule(step.schedule_table), step.parameters, is_finished=is_finished)


def run_runner(settings: Settings, name: str, job: Job) -> dict[str, Any] | None:
    """Take part in a job of the tool; what came of it at rank 0, None elsewhere."""
    runner = tool_of(settings, name).runner(ToolConfig(settings, name))
    if not isinstance(runner, MPIRunnerTool):  # whatever it does, it does all of it
        runner.run()
        return {"tool": name, "left": 0, "partitions": 0} if job.world.rank == 0 else None
    runner.job = job
    runner.run()
    return asdict(runner.result) if runner.result else None


def job_is_due(plan: Path, done: Sequence[Path], settings: Settings) -> bool:
    """Whether another job is due in this run, after these.

    The first if the schedule says so; another one while partitions are left, at most
    `tools_parameters.num_workers` (0 = until done), unless somebody asked the last one to end.
    """
    if not done:
        return bool(read_json(plan)["is_due"])
    last, most = read_json(done[-1]), settings.raw["tools_parameters"]["num_workers"]
    was_ended = last.get("stopped") not in (None, "out of time")
    return last["left"] > 0 and not was_ended and (most == 0 or len(done) < most)
