"""Post-processing: tools of three steps, and what a tool of your own is made of.

    filter     picks images             -> tools/<tool>/filter_table/*.csv
    scheduler  spreads the partitions   -> tools/<tool>/schedule.csv
    runner     processes them over MPI  -> tools/<tool>/verification/<rank>.csv, and what it makes

Each step is a class of the tool's name, registered by a decorator.
"""

from distributed_downloader.tools.base import ToolConfig, ToolsBase
from distributed_downloader.tools.filters import ExpressionFilter, PythonFilterToolBase
from distributed_downloader.tools.partition import Partition, StoredImage
from distributed_downloader.tools.registry import (
    FilterRegister,
    RunnerRegister,
    SchedulerRegister,
)
from distributed_downloader.tools.removal import RemovalRunner
from distributed_downloader.tools.runners import ImageRunner, MPIRunnerTool
from distributed_downloader.tools.schedulers import DefaultScheduler

__all__ = [
    "DefaultScheduler",
    "ExpressionFilter",
    "FilterRegister",
    "ImageRunner",
    "MPIRunnerTool",
    "Partition",
    "PythonFilterToolBase",
    "RemovalRunner",
    "RunnerRegister",
    "SchedulerRegister",
    "StoredImage",
    "ToolConfig",
    "ToolsBase",
]
