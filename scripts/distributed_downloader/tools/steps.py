"""The three steps of a tool as the workflow calls them, and when another job of it is due."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distributed_downloader.durable import is_disk_error, read_json
from distributed_downloader.errors import DownloaderError, ToolError
from distributed_downloader.settings import Settings
from distributed_downloader.tools.account import reason
from distributed_downloader.tools.base import ToolConfig
from distributed_downloader.tools.filters import clear_filter_table, read_partitions
from distributed_downloader.tools.job import Job
from distributed_downloader.tools.registry import Tool, load_tool
from distributed_downloader.tools.runners import MPIRunnerTool
from distributed_downloader.tools.schedule import plan_of, read_schedule

log = logging.getLogger(__name__)


def tool_of(settings: Settings, name: str) -> Tool:
    """The tool's classes. Raises ConfigError."""
    return load_tool(name, settings.raw["tools_parameters"]["folder"])


def run_filter(settings: Settings, name: str) -> int:
    """Write the filter table anew; the number of images in it."""
    tool = tool_of(settings, name)
    with _told_as("filter", name):
        step = tool.filter(ToolConfig(settings, name))
        clear_filter_table(step.filter_table)
        step.run()
    return sum(read_partitions(step.filter_table).values())


def run_scheduler(settings: Settings, name: str) -> dict[str, Any]:
    """Write schedule.csv; its plan, as `plan_of` has it."""
    tool, config = tool_of(settings, name), ToolConfig(settings, name)
    with _told_as("runner", name):
        runner = tool.runner(config)
    with _told_as("scheduler", name):
        step = tool.scheduler(config)
        step.run()
    if not step.schedule_table.is_file():
        raise ToolError(f"The scheduler of {name} wrote no {step.schedule_table}.")
    is_finished = not isinstance(runner, MPIRunnerTool) or runner.is_finished
    return plan_of(read_schedule(step.schedule_table), step.parameters, is_finished=is_finished)


def run_runner(settings: Settings, name: str, job: Job) -> dict[str, Any] | None:
    """Take part in a job of the tool; what came of it at rank 0, None elsewhere."""
    with _told_as("runner", name):
        runner = tool_of(settings, name).runner(ToolConfig(settings, name))
        if isinstance(runner, MPIRunnerTool):
            runner.job = job
        runner.run()
    if isinstance(runner, MPIRunnerTool):
        return asdict(runner.result) if runner.result else None
    # whatever it does, it does all of it
    return {"tool": name, "left": 0, "partitions": 0} if job.world.rank == 0 else None


@contextmanager
def _told_as(step: str, tool: str) -> Iterator[None]:
    """What a tool's own code comes to is one sentence of the tool; its traceback is in the log."""
    try:
        yield
    except DownloaderError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and is_disk_error(error):
            raise
        log.error("the %s of %s failed", step, tool, exc_info=True, extra={"told": True})
        raise ToolError(f"The {step} of {tool} failed: {reason(error)}") from error


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
