"""Images whose original was small go: the shorter side under `threshold_size` pixels."""

import polars as pl

from distributed_downloader.tools.filters import ExpressionFilter, FilterRegister
from distributed_downloader.tools.removal import RemovalRunner
from distributed_downloader.tools.runners import RunnerRegister
from distributed_downloader.tools.schedulers import DefaultScheduler, SchedulerRegister

NAME = "size_based"


@FilterRegister(NAME)
class SmallImages(ExpressionFilter):
    """Picks the small ones."""

    def expression(self) -> pl.Expr:
        """Of the original, not of what is stored of it."""
        return pl.col("original_size").list.min() < int(self.parameters["threshold_size"])


@SchedulerRegister(NAME)
class Scheduler(DefaultScheduler):
    """As every tool."""


@RunnerRegister(NAME)
class Removal(RemovalRunner):
    """Removes them."""

    reason = "too small"
