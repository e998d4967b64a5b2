"""One group over time: turns, answers, verdicts, memory. In virtual time."""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed_downloader.courtesy.budgets import Backoff, Budget
from distributed_downloader.courtesy.group_pace import GroupPace, Memory, Verdict
from distributed_downloader.records import ErrorClass
from tests import virtual_time

WALL = 1_800_000_000.0  # a midnight-less moment of the wall clock: virtual time 0
BACKOFF = Backoff(first_s=10, factor=2, max_s=1000, jitter=0.0, breaker_failures=3)
BUDGET = Budget("a.org", 10.0, backoff=BACKOFF)


@dataclass(frozen=True)
class Heard:
    status: int | None = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_s: float = 0.01
    nbytes: int = 0
    error_class: ErrorClass | None = None


OK = Heard()
REFUSED = Heard(429)


def wall() -> float:
    return WALL + virtual_time.now()


def pace_of(budget: Budget = BUDGET, memory: Memory | None = None) -> GroupPace:
    return GroupPace(budget, memory, now=virtual_time.now, wall=wall, chance=lambda: 0.0)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return virtual_time.run(main)


async def ask(pace: GroupPace, answer: Heard = OK, server: str = "a.org") -> Verdict:
    await pace.turn()
    await asyncio.sleep(answer.latency_s)
    return pace.heard(answer, server)


async def times_of(pace: GroupPace, count: int, workers: int = 4) -> list[float]:
    """When so many requests go out, if all is well."""
    times: list[float] = []

    async def worker() -> None:
        while len(times) < count:
            times.append(0.0)
            index = len(times) - 1
            await pace.turn()
            assert await pace.leave()
            times[index] = virtual_time.now()
            await asyncio.sleep(0.05)
            pace.heard(OK)

    await asyncio.gather(*(worker() for _ in range(workers)))
    return sorted(times)
