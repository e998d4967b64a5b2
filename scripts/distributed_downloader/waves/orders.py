"""What a wave's schedule gives to each rank: groups with their rates, servers and rows."""

import logging
from collections.abc import Callable, Iterator, Sequence

import polars as pl

from distributed_downloader.courtesy.ownership import Ownership
from distributed_downloader.durable import read_json
from distributed_downloader.mpi import World
from distributed_downloader.paths import Batch
from distributed_downloader.records import Row
from distributed_downloader.settings import Settings
from distributed_downloader.waves.duty import Duty, GroupOrders
from distributed_downloader.waves.memories import memory_file
from distributed_downloader.waves.planning import PLAN
from distributed_downloader.waves.tries import Effort
from distributed_downloader.waves.worklist import read_rows, rows_left

log = logging.getLogger(__name__)

PATIENCE_S = 30.0  # most that a wave with nothing else to do waits for a blocked group


def servers_of(settings: Settings, wave: int) -> list[str]:
    """The wave's servers, one of each group first."""
    schedule = pl.read_parquet(settings.paths.wave(wave) / "schedule.parquet").explode("servers")
    firsts = schedule.unique("group", keep="first", maintain_order=True)
    return [*firsts["servers"], *schedule["servers"]]


def duty_of(settings: Settings, wave: int, world: World, allowed: Callable[[], None]) -> Duty:
    """What the wave's schedule gives to this rank."""
    paths = settings.paths
    schedule = pl.read_parquet(paths.wave(wave) / "schedule.parquet")
    plan = read_json(paths.wave(wave) / PLAN) or {}
    owners = plan.get("robots_owners", {}) | dict(schedule.select("group", "rank").iter_rows())
    mine = schedule.filter(pl.col("rank") == world.rank)
    groups = [
        _orders(settings, str(group), rows)
        for (group,), rows in mine.group_by("group", maintain_order=True)
    ]
    return Duty(
        wave=wave,
        ownership=Ownership(world.rank, world.size, owners),
        groups=groups,
        total_rows=int(mine["rows"].sum()),
        effort=Effort(settings.retries_per_row, min(PATIENCE_S, settings.politeness.wait_s)),
        memory_file=memory_file(paths.wave(wave), world.rank),
        allowed=allowed,
        edited_limits=plan.get("edited_limits", {}),
    )


def _orders(settings: Settings, group: str, schedule: pl.DataFrame) -> GroupOrders:
    batches = [Batch(*pair) for pair in schedule.select("server_name", "partition_id").iter_rows()]
    return GroupOrders(
        group=group,
        rate_limit=schedule["rate_limit"][0],
        servers=sorted(set(schedule["servers"].explode())),
        rows=_rows(settings, group, batches),
    )


def _rows(settings: Settings, group: str, batches: Sequence[Batch]) -> Iterator[Row]:
    """The group's rows that are left, batch after batch, each opened when its turn has come."""
    for batch in batches:
        left = rows_left(batch, settings)
        log.info("batch started: %s, %d rows left for %s", batch.folder, len(left.table), group)
        yield from read_rows(left, group, settings.paths)
