"""One wave's plan from the files: what is left, how fast its groups may be asked, who asks them.

`schedule.py` decides; this room reads what the decision needs and writes it down.
"""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple
from typing import Any, TextIO

import polars as pl

from distributed_downloader.admission.costs import policy_costs
from distributed_downloader.courtesy.budgets import budget_of
from distributed_downloader.courtesy.group_pace import Memory
from distributed_downloader.courtesy.groups import group_of
from distributed_downloader.courtesy.ignored import read_ignored
from distributed_downloader.durable import read_derived_json, write_json, write_parquet
from distributed_downloader.lists.generations import rows_by_batch
from distributed_downloader.paths import Batch
from distributed_downloader.settings import Settings
from distributed_downloader.tables import SCHEDULE
from distributed_downloader.waves.left import LeftRows
from distributed_downloader.waves.memories import load_memories
from distributed_downloader.waves.profile_table import (
    Profile,
    edited_limits,
    group_limit,
    read_profiles,
)
from distributed_downloader.waves.schedule import GroupWork, Machine, Plan, plan_wave
from distributed_downloader.waves.whereabouts import needs_whereabouts, settle_whereabouts
from distributed_downloader.waves.worklist import count_left
from distributed_downloader.wording import count, duration, moment

log = logging.getLogger(__name__)

PLAN = "plan.json"
TOLD_GROUPS = 5
TOLD_COSTS = 20
MOST_DOUBLINGS = 50  # of a rest: any further one is over wait_s by far

Sleep = Callable[[float], None]
WorkByGroup = Mapping[str, Mapping[Batch, LeftRows]]


def work_left(settings: Settings) -> WorkByGroup:
    """Group -> batch -> rows left, ignored servers left out."""
    ignored = read_ignored(settings.paths.ignored_table)
    work: dict[str, dict[Batch, LeftRows]] = defaultdict(dict)
    for batch, rows in rows_by_batch(settings.paths).items():
        for group, left in count_left(batch, rows, settings, ignored).items():
            work[group][batch] = left
    return work


def settle_servers(settings: Settings) -> None:
    """Find out where the servers are that are to be asked for what is left, if need be.

    Raises ConfigError if the settings do not allow to ask one that is listed: what a redirect leads
    to is for its row to find out.
    """
    if not needs_whereabouts(settings):
        return
    left = [rows for of in work_left(settings).values() for rows in of.values()]
    servers = {server for rows in left for server in rows.servers}
    servers |= {at for memory in load_memories(settings).values() for at in memory.robots_at}
    listed = {server for rows in left for server in rows.servers - rows.targets}
    settle_whereabouts(settings, servers, listed)


def plan_next_wave(settings: Settings) -> Plan:
    """The plan for what is left now, with what profile and earlier waves have learned.

    Raises ConfigError if the settings do not allow to ask one of the servers.
    """
    settle_servers(settings)
    profiles = read_profiles(settings.paths)
    edited = edited_limits(profiles, settings.politeness)
    memories = load_memories(settings)
    work = work_left(settings)
    groups = [
        group_work(
            group, batches, settings, profiles, memories.get(group), edited.get(group, math.inf)
        )
        for group, batches in work.items()
    ]
    machine = Machine(settings.max_nodes, settings.workers_per_node, settings.cpu_per_worker)
    return plan_wave(groups, machine)


def group_work(
    group: str,
    batches: Mapping[Batch, LeftRows],
    settings: Settings,
    profiles: Mapping[str, Profile],
    memory: Memory | None,
    edited_limit: float = math.inf,
) -> GroupWork:
    """A group's rows with the rate it may take and the rate it is expected to take.

    `edited_limit` is what a person allows the group, also by servers that have no rows left.
    """
    servers = sorted(frozenset().union(*(left.servers for left in batches.values())))
    known = [profiles[server] for server in servers if server in profiles]
    is_alive = memory is not None and memory.accepted > 0
    delays = {row["server_name"]: row["crawl_delay_s"] for row in known if row["crawl_delay_s"]}
    budget = budget_of(group, servers, settings, delays)
    limit = min(edited_limit, group_limit(budget, known, is_alive=is_alive))
    learned = memory.rate if memory is not None and memory.rate else limit
    blocked_s = max(0.0, memory.rests_until - time.time()) if memory is not None else 0.0
    sizes = [row["mean_bytes"] for row in known if row["mean_bytes"]]
    return GroupWork(
        group=group,
        rows=sum(left.rows for left in batches.values()),
        rate_limit=limit,
        rate=min(limit, learned),
        blocked_s=blocked_s,
        mean_bytes=sum(sizes) / len(sizes) if sizes else None,
        batches={batch: left.rows for batch, left in batches.items()},
        servers={batch: sorted(left.servers) for batch, left in batches.items()},
        robots_at=_groups_of(memory.robots_at if memory is not None else (), settings) - {group},
    )


def _groups_of(servers: Iterable[str], settings: Settings) -> frozenset[str]:
    return frozenset(group_of(server, settings.politeness) for server in servers)


def write_plan(settings: Settings, wave: int, plan: Plan) -> None:
    """schedule.parquet, then plan.json: the plan is there when its schedule is."""
    folder = settings.paths.wave(wave)
    write_parquet(
        folder / "schedule.parquet", pl.DataFrame(_schedule_rows(plan), SCHEDULE, orient="row")
    )
    profiles = read_profiles(settings.paths)
    said = {
        "wave": wave,
        **plan_summary(plan),
        "robots_owners": plan.robots_owners,
        "edited_limits": edited_limits(profiles, settings.politeness),
        "policy": [cost.as_json() for cost in policy_costs(profiles)],
    }
    write_json(folder / PLAN, said)


def plan_summary(plan: Plan) -> dict[str, Any]:
    """What plan.json says, for the loop and for people."""
    groups = [group for rank in plan.ranks for group in rank]
    return {
        "ranks": max(1, len(plan.ranks)),
        "nodes": max(1, plan.nodes),
        "rows": sum(group.rows for group in groups),
        "groups": len(groups),
        "predicted_s": round(plan.predicted_s, 1),
        "lower_bound_s": round(plan.lower_bound_s, 1),
        "bound_group": plan.bound_group,
        "bytes": round(sum(group.rows * (group.mean_bytes or 0) for group in groups)),
        "blocked": {group.group: round(group.blocked_s, 1) for group in groups if group.blocked_s},
        "written": time.time(),
    }


def _schedule_rows(plan: Plan) -> list[tuple[Any, ...]]:
    return [
        (rank, *astuple(batch), group.group, group.rate_limit, rows, group.servers.get(batch, ()))
        for rank, groups in enumerate(plan.ranks)
        for group in groups
        for batch, rows in sorted(group.batches.items())
    ]


def wait_for_turn(settings: Settings, waves_before: int, *, sleep: Sleep = time.sleep) -> None:
    """Wait, without a job, until the next wave makes sense; `waves_before` are those of this run.

    Until the first blocked group is free, if all that is left is blocked. Before asking again for
    what only failed for now: `first_s`, and `factor` times longer before each further wave.
    """
    left = read_derived_json(settings.paths.left)
    if not left:
        return
    is_first_look = not waves_before and left.get("cut_off")  # the network may be back
    until, why = left["free_at"], "all that is left belongs to servers that rest"
    if is_first_look:
        until = 0.0
    if waves_before and not left["pending"]:
        politeness = settings.politeness
        rest_s = politeness.first_s * politeness.factor ** min(waves_before - 1, MOST_DOUBLINGS)
        retry_at = left["written"] + min(rest_s, settings.politeness.wait_s)
        if retry_at > until:
            until, why = retry_at, "all that is left has failed for now"
    wait_s = min(until - time.time(), settings.politeness.wait_s)  # the calendar may be set back
    if wait_s > 0:
        log.warning("waiting %.0f s before the next wave: %s", wait_s, why)
        sleep(wait_s)


def tell_costs(profiles: Mapping[str, Profile], stream: TextIO) -> None:
    """What rules are expected to cost, per server, and which key changes it."""
    costs = policy_costs(profiles)
    if costs:
        print("What servers' own rules cost, as far as the samples tell:", file=stream)
    for cost in costs[:TOLD_COSTS]:
        print(f"  {cost.sentence()}", file=stream)
    if costs[TOLD_COSTS:]:
        rows = sum(cost.rows for cost in costs[TOLD_COSTS:])
        others = count(len(costs) - TOLD_COSTS, "other server")
        print(f"  and {count(rows, 'row')} of {others}", file=stream)


def tell_plan(plan: Plan, stream: TextIO) -> None:
    """How long it will take, for a person."""
    groups = [group for rank in plan.ranks for group in rank]
    if not groups:
        print("Nothing is left to ask for.", file=stream)
        return
    rows = sum(group.rows for group in groups)
    print(
        f"Left: {count(rows, 'row')} of {count(len(groups), 'group')}, "
        f"for {count(max(1, len(plan.ranks)), 'rank')}.\n"
        f"About {duration(plan.predicted_s)}; politeness alone costs "
        f"{duration(plan.lower_bound_s)} (set by {plan.bound_group}).",
        file=stream,
    )
    slowest = sorted(groups, key=lambda group: -group.predicted_s)[:TOLD_GROUPS]
    for group in slowest:
        print(
            f"  {group.group}: {count(group.rows, 'row')} at {group.rate:.3g}/s, "
            f"{duration(group.predicted_s)}",
            file=stream,
        )
    for group in (group for group in groups if group.blocked_s):
        until = moment(time.time() + group.blocked_s)
        print(f"  {group.group} rests until {until}: {count(group.rows, 'row')} left", file=stream)
