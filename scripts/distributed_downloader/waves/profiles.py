"""What each server is like, from a few samples that are asked as politely as everything else.

A sample that brings an image is stored like any other: it is not fetched a second time. One that
fails for now leaves its row as it was. `rate_limit` is the smallest of

1. its budget (`default_rate_limit` or `politeness.servers`, times `rate_multiplier`),
2. 1 / Crawl-delay of its robots.txt,
3. what its connections carry at the latency that was seen: connections / latency;

and GENTLE_RATE at most, to start with, if none of its samples was answered. A plan makes it anew
from the config of its day (`profile_table`).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import polars as pl

from distributed_downloader.courtesy.budgets import Budget, budget_of
from distributed_downloader.courtesy.groups import groups_of
from distributed_downloader.courtesy.ignored import is_ignored, read_ignored
from distributed_downloader.courtesy.ownership import Ownership
from distributed_downloader.durable import whole_file
from distributed_downloader.errors import DownloaderError
from distributed_downloader.lists.generations import rows_by_batch
from distributed_downloader.mpi import Solo
from distributed_downloader.paths import Batch
from distributed_downloader.records import ErrorClass, Failed, Fetched, Outcome, Row
from distributed_downloader.settings import Settings
from distributed_downloader.storage.lock import Lock
from distributed_downloader.storage.parts import PROFILE_WAVE
from distributed_downloader.tables import PROFILES
from distributed_downloader.waves.deadline import Deadline
from distributed_downloader.waves.duty import Duty, GroupOrders, Worker
from distributed_downloader.waves.memories import profile_file
from distributed_downloader.waves.outset import check_way_out
from distributed_downloader.waves.planning import settle_servers
from distributed_downloader.waves.settling import settle_batches
from distributed_downloader.waves.tries import Effort
from distributed_downloader.waves.wave import Bounds, work
from distributed_downloader.waves.worklist import RowsLeft, read_rows, rows_left
from distributed_downloader.wire.transport import client_of

GENTLE_RATE = 1.0  # requests per second
PATIENCE_S = 10.0


@dataclass(slots=True)
class Sampled:
    """What the samples of one server brought."""

    latencies_s: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    errors: int = 0
    disallowed: int = 0
    opted_out: int = 0
    answers: int = 0  # of any HTTP status under 500, but 429

    def take(self, outcome: Outcome) -> None:
        """Count one sample's outcome."""
        match outcome:
            case Fetched():
                self.latencies_s.append(outcome.latency_s)
                self.sizes.append(len(outcome.body))
                self.answers += 1
            case Failed():
                self.errors += 1
                self.disallowed += outcome.error_class is ErrorClass.ROBOTS_DISALLOWED
                is_opted_out = outcome.error_class is ErrorClass.OPTED_OUT
                self.opted_out += is_opted_out
                is_answer = 0 < outcome.error_code < 500 and outcome.error_code != 429
                self.answers += is_answer or is_opted_out


def measured_limit(budget: Budget, sampled: Sampled, crawl_delay_s: float | None) -> float | None:
    """Requests per second by rules 2 and 3, or GENTLE_RATE; None if nothing was found."""
    limits = [1 / crawl_delay_s] if crawl_delay_s else []
    if sampled.latencies_s:
        limits.append(budget.connections / max(median(sampled.latencies_s), 0.001))
    elif sampled.errors and not sampled.answers:
        limits.append(GENTLE_RATE)
    return min(limits, default=None)


def limits_of(
    budget: Budget, sampled: Sampled, crawl_delay_s: float | None
) -> dict[str, float | None]:
    """The table's three columns."""
    found = measured_limit(budget, sampled, crawl_delay_s)
    rate = budget.rate if found is None else min(budget.rate, found)
    return {
        "rate_limit": float(f"{rate:.6g}"),  # a slow one is no 0
        "configured_limit": budget.rate,
        "measured_limit": found,
    }


async def profile_servers(settings: Settings, lock: Lock) -> pl.DataFrame:
    """Write and return the profiles table.

    Raises DownloaderError if what was fetched cannot be stored.
    """
    rows = rows_by_batch(settings.paths)
    batches: defaultdict[str, list[Batch]] = defaultdict(list)
    for batch in rows:
        batches[batch.server_name].append(batch)
    settle_servers(settings)
    sampled: defaultdict[str, Sampled] = defaultdict(Sampled)
    delays: Mapping[str, float] = {}
    if settings.profile_samples:
        delays = await _sample(settings, batches, sampled, lock)
        settle_batches(settings, rows, lock.check)
    groups = groups_of(batches, settings.politeness)
    table = pl.DataFrame(
        [
            {
                "server_name": server,
                "group": groups[server],
                "total_batches": len(of_server),
                "total_rows": sum(rows[batch] for batch in of_server),
                **_measured(settings, groups[server], server, sampled[server], delays.get(server)),
            }
            for server, of_server in sorted(batches.items())
        ],
        PROFILES,
    )
    with whole_file(settings.paths.profiles_table) as beside:
        table.write_csv(beside)
    return table


def _measured(
    settings: Settings, group: str, server: str, sampled: Sampled, crawl_delay_s: float | None
) -> dict[str, Any]:
    budget = budget_of(group, [server], settings)
    return {
        "success_count": len(sampled.sizes),
        "error_count": sampled.errors,
        **limits_of(budget, sampled, crawl_delay_s),
        "latency_s": median(sampled.latencies_s) if sampled.latencies_s else None,
        "mean_bytes": fmean(sampled.sizes) if sampled.sizes else None,
        "crawl_delay_s": crawl_delay_s,
        "disallowed_count": sampled.disallowed,
        "opted_out_count": sampled.opted_out,
    }


async def _sample(
    settings: Settings,
    batches: Mapping[str, Sequence[Batch]],
    sampled: defaultdict[str, Sampled],
    lock: Lock,
) -> Mapping[str, float]:
    """Fetch the samples; the crawl delays (seconds) by server that were met on the way."""
    await check_way_out(settings, _sampled_servers(settings, batches))
    async with client_of(settings) as client:
        duty = _duty(settings, batches, lock)
        worker = Worker(settings, duty, client, on_outcome=lambda r, o: sampled[r.server].take(o))
        result, stopped = await work(settings, worker, Solo(), Bounds(lock, Deadline()), None)
    if result.failure:
        raise DownloaderError(result.failure)
    if stopped:
        raise DownloaderError(f"Profiling was ended ({stopped}): the same command goes on with it.")
    return worker.crawl_delays()


def _sampled_servers(settings: Settings, batches: Mapping[str, Sequence[Batch]]) -> Sequence[str]:
    ignored = read_ignored(settings.paths.ignored_table)
    return [
        server
        for server in batches
        if not batches[server][0].is_mixed and not is_ignored(server, ignored)
    ]


def _duty(settings: Settings, batches: Mapping[str, Sequence[Batch]], lock: Lock) -> Duty:
    servers = _sampled_servers(settings, batches)
    by_group: dict[str, list[str]] = defaultdict(list)
    for server, group in groups_of(servers, settings.politeness).items():
        by_group[group].append(server)
    groups = [
        GroupOrders(
            group=group,
            rate_limit=budget_of(group, members, settings).rate,
            servers=sorted(members),
            rows=_samples(settings, group, [batches[server][0] for server in sorted(members)]),
        )
        for group, members in sorted(by_group.items())
    ]
    return Duty(
        wave=PROFILE_WAVE,
        ownership=Ownership(0, 1, {}),
        groups=groups,
        total_rows=settings.profile_samples * len(servers),
        effort=Effort(tries_per_row=1, patience_s=PATIENCE_S, keeps_retryable=False),
        memory_file=profile_file(settings.paths),
        allowed=lock.check,
    )


def _samples(settings: Settings, group: str, firsts: Sequence[Batch]) -> Iterator[Row]:
    """A few rows, evenly spread, of the first batch of each server of the group."""
    for batch in firsts:
        left = rows_left(batch, settings)
        step = max(1, len(left.table) // settings.profile_samples)
        chosen = left.table.gather_every(step).head(settings.profile_samples)
        yield from read_rows(RowsLeft(batch, chosen), group, settings.paths)
