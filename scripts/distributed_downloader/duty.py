"""A rank's duty in one wave, or in profile: what it is given, and what it brings back.

Here everything that a rank needs is put together: client, gate, store, queues. What it learns of
its groups goes to disk while it works: a block before it matters, the rest every few seconds.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from distributed_downloader.budgets import budget_of
from distributed_downloader.courtesy import GroupPace
from distributed_downloader.errors import ConfigError, DownloaderError
from distributed_downloader.gate import Gate, GateRules
from distributed_downloader.group_queue import GroupQueue
from distributed_downloader.groups import group_of
from distributed_downloader.ignored import read_ignored
from distributed_downloader.memories import load_memories, save_memories
from distributed_downloader.news import Stop
from distributed_downloader.parts import PartNames
from distributed_downloader.permission import Permission
from distributed_downloader.rank import GRACE_S, Effort, OnOutcome, Rank, Tally
from distributed_downloader.records import Row
from distributed_downloader.schedule import Ownership
from distributed_downloader.settings import Settings
from distributed_downloader.store import Store

log = logging.getLogger(__name__)

KEEP_UP_S = 5.0


@dataclass(frozen=True, slots=True)
class GroupOrders:
    """One group that a rank is to ask."""

    group: str
    rate_limit: float  # requests per second, at most
    servers: Sequence[str]
    rows: Iterator[Row]  # read lazily, in a thread


@dataclass(frozen=True, slots=True)
class Duty:
    """What one rank is to do."""

    wave: int
    ownership: Ownership
    groups: Sequence[GroupOrders]
    total_rows: int
    effort: Effort
    memory_file: Path
    allowed: Callable[[], None]  # raises LockError once the run must not write any more


@dataclass(frozen=True, slots=True)
class Result:
    """What a rank brings back."""

    settled: int
    learned: tuple[Mapping[str, Any], ...]  # rows of tables.LEARNED
    failure: str | None  # the sentence of what ended it before its work did


class Worker:
    """A rank with all it needs, for one duty."""

    def __init__(
        self,
        settings: Settings,
        duty: Duty,
        client: httpx.AsyncClient,
        on_outcome: OnOutcome = lambda _row, _outcome: None,
    ) -> None:
        self._settings = settings
        self._duty = duty
        self._memories = load_memories(settings.paths)
        self._planned = {orders.group: orders for orders in duty.groups}
        rules = GateRules(duty.ownership, self._group_of, self._pace_of, self._save)
        self._permission = Permission(settings, client)
        self._gate = Gate(rules, self._permission)
        names = PartNames(duty.wave, duty.ownership.rank)
        self._store = Store(settings, names, duty.allowed)
        self._rank = Rank(settings, duty.effort, self._gate, client, self._store, on_outcome)
        self._rank.tally.total = duty.total_rows

    @property
    def tally(self) -> Tally:
        """How far it is."""
        return self._rank.tally

    def stop(self, stop: Stop) -> None:
        """No new requests; what was fetched is stored."""
        log.info("stopping: %s", stop.reason)
        self._rank.stop(self._settings.timeouts.total_s if stop.is_in_time else GRACE_S)

    def crawl_delays(self) -> Mapping[str, float]:
        """Seconds by server, of those whose robots.txt was read and asks for one."""
        return self._permission.crawl_delays

    async def run(self) -> Result:
        """Do the duty. An error that a person must read about is brought back, not raised."""
        clock = asyncio.get_running_loop().time
        queues = {}
        for orders in self._duty.groups:
            self._gate.open(orders.group, orders.servers[0])
            queues[orders.group] = GroupQueue(orders.rows, clock)
        keeping = asyncio.create_task(self._keep_up())
        keeping.add_done_callback(lambda _: self._rank.stop())
        failure = None
        try:
            await self._rank.run(queues)
            self._save()
        except DownloaderError as error:
            log.error("%s", error)
            failure = str(error)
        finally:
            keeping.cancel()
            (ended,) = await asyncio.gather(keeping, return_exceptions=True)
        if isinstance(ended, Exception):
            failure = failure or _sentence(ended)
        return Result(self.tally.settled, tuple(self._learned()), failure)

    def _group_of(self, server: str) -> str:
        return group_of(server, self._settings.politeness)

    def _pace_of(self, group: str, server: str) -> GroupPace:
        """The group's pace, going on from what is known of it."""
        orders = self._planned.get(group)
        servers = orders.servers if orders else [server]
        budget = budget_of(group, servers, self._settings)
        if orders:
            budget = replace(budget, rate=min(budget.rate, orders.rate_limit))
        return GroupPace(budget, self._memories.get(group))

    async def _keep_up(self) -> None:
        """Write down what was learned, and read what the user wrote, every few seconds."""
        while True:
            self._read_ignored()
            await asyncio.sleep(KEEP_UP_S)
            self._save()

    def _read_ignored(self) -> None:
        """A table that is being edited, and broken for a moment, changes nothing."""
        try:
            self._gate.ignored = read_ignored(self._settings.paths.ignored_table)
        except (ConfigError, OSError) as error:
            log.warning("the ignored table cannot be read, what it said before holds: %s", error)

    def _save(self) -> None:
        memories = {group: pace.memory() for group, pace in self._gate.paces.items()}
        save_memories(self._duty.memory_file, memories)

    def _learned(self) -> Iterator[Mapping[str, Any]]:
        for pace in self._gate.paces.values():
            yield pace.audit(self._duty.ownership.rank)


def _sentence(error: Exception) -> str:
    """Of what ended the keeping up: a DownloaderError has one, anything else is a fault of ours."""
    if isinstance(error, DownloaderError):
        return str(error)
    raise error
