"""A rank's duty in one wave, or in profile: what it is given, and what it brings back.

Here everything that a rank needs is put together: client, gate, store, queues. What it learns of
its groups goes to disk while it works: a block before it matters, the rest every few seconds.
"""

import asyncio
import gc
import itertools
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from distributed_downloader.admission.gate import Gate, GateRules
from distributed_downloader.admission.outage import Outage
from distributed_downloader.admission.permission import Permission
from distributed_downloader.courtesy.budgets import Budget, backoff_of, budget_of
from distributed_downloader.courtesy.group_pace import GroupPace, Memory
from distributed_downloader.courtesy.groups import group_of
from distributed_downloader.courtesy.ignored import read_ignored
from distributed_downloader.courtesy.ownership import NOBODYS, Ownership
from distributed_downloader.errors import ConfigError, DownloaderError
from distributed_downloader.records import Row
from distributed_downloader.settings import Settings
from distributed_downloader.storage.parts import PartNames
from distributed_downloader.storage.store import Store
from distributed_downloader.waves.arrivals import OnOutcome
from distributed_downloader.waves.group_queue import GroupQueue
from distributed_downloader.waves.memories import load_memories, save_memories
from distributed_downloader.waves.news import Stop, Tally
from distributed_downloader.waves.nodes import this_node
from distributed_downloader.waves.rank import GRACE_S, Rank
from distributed_downloader.waves.tries import Effort
from distributed_downloader.waves.whereabouts import is_settled
from distributed_downloader.wire.reach import connects

log = logging.getLogger(__name__)

KEEP_UP_S = 5.0
PREPARED_GROUPS = 8  # read from before the wave begins; the rest follow while they are asked
SWITCH_S = 0.0005  # between threads: 5 ms, Python's own, is what each request would wait for codecs


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
    edited_limits: Mapping[str, float] = field(default_factory=dict)  # by group, of any server's


@dataclass(frozen=True, slots=True)
class Result:
    """What a rank brings back."""

    changed: int  # rows whose state, or count of tries, is another now
    learned: tuple[Mapping[str, Any], ...]  # rows of tables.LEARNED
    failure: str | None  # the sentence of what ended it before its work did
    node: str = ""  # where it ran
    worked_s: float = 0.0  # until it had nothing left to do


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
        self._memories = load_memories(settings)
        self._planned = {orders.group: orders for orders in duty.groups}
        self._queues: dict[str, GroupQueue] = {}
        self._unsaved = asyncio.Event()
        self._is_over = False
        outage = Outage(self._connects, backoff_of(settings.politeness), self._memories)
        rules = GateRules(
            duty.ownership,
            self._group_of,
            self._pace_of,
            self._unsaved.set,
            self._budget_of,
            outage,
        )
        self._permission = Permission(settings, client)
        self._gate = Gate(rules, self._permission)
        names = PartNames(duty.wave, duty.ownership.rank)
        self._store = Store(settings, names, duty.allowed)
        self._rank = Rank(settings, duty.effort, self._gate, client, self._store, on_outcome)
        self._rank.tally.total = duty.total_rows
        self._rank.tally.node = this_node()

    @property
    def tally(self) -> Tally:
        """How far it is."""
        return self._rank.tally

    @property
    def patience_s(self) -> float:
        """How long a wave with nothing else to do waits for a blocked group."""
        return self._duty.effort.patience_s

    def stop(self, stop: Stop) -> None:
        """No new requests; what was fetched is stored."""
        log.info("stopping: %s", stop.reason)
        self._rank.stop(self._settings.timeouts.total_s if stop.is_in_time else GRACE_S)

    def crawl_delays(self) -> Mapping[str, float]:
        """Seconds by server, of those whose robots.txt was read and asks for one."""
        return self._permission.crawl_delays

    async def prepare(self) -> None:
        """Read the first rows, start a decoder: so ranks that begin together ask together."""
        clock = asyncio.get_running_loop().time
        self._queues = {
            orders.group: GroupQueue(orders.rows, clock) for orders in self._duty.groups
        }
        first = itertools.islice(self._queues.values(), PREPARED_GROUPS)
        await asyncio.gather(self._rank.prepare(), *(queue.fill() for queue in first))

    async def run(self) -> Result:
        """Do the duty. An error that a person must read about is brought back, not raised."""
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()  # what is loaded by now stays: no need to look through it again and again
        clock = asyncio.get_running_loop().time
        began = clock()
        if not self._queues:
            await self.prepare()
        for orders in self._duty.groups:
            self._gate.open(orders.group, orders.servers[0])
        keeping = asyncio.create_task(self._keep_up())
        keeping.add_done_callback(lambda _: self._rank.stop())
        failure = None
        try:
            await self._rank.run(self._queues)
        except DownloaderError as error:
            log.error("%s", error, extra={"told": True})  # to people: by whom it is brought to
            failure = str(error)
        finally:
            self._is_over = True
            self._unsaved.set()
            (ended,) = await asyncio.gather(keeping, return_exceptions=True)
        if isinstance(ended, Exception):
            failure = failure or _sentence(ended)
        learned, worked_s = tuple(self._learned()), clock() - began
        changed = self.tally.settled - self.tally.spared
        return Result(changed, learned, failure, self.tally.node, worked_s)

    def _group_of(self, server: str) -> str:
        politeness = self._settings.politeness
        return group_of(server, politeness) if is_settled(server, politeness) else NOBODYS

    def _pace_of(self, group: str, server: str) -> GroupPace:
        """The group's pace, going on from what is known of it."""
        orders = self._planned.get(group)
        servers = orders.servers if orders else [server]
        budget = budget_of(group, servers, self._settings)
        if orders:
            budget = replace(budget, rate=min(budget.rate, orders.rate_limit))
        elif group in self._duty.edited_limits:
            budget = replace(budget, rate=min(budget.rate, self._duty.edited_limits[group]))
        return GroupPace(budget, self._memories.get(group))

    async def _connects(self, server: str) -> bool:
        is_ignored = self._gate.is_ignored(server)
        return not is_ignored and await connects(server, self._settings)

    def _budget_of(self, group: str, server: str) -> Budget:
        return budget_of(group, [server], self._settings)

    async def _keep_up(self) -> None:
        """Write down what was learned, and read what the user wrote, every few seconds.

        A block is written down at once. The disk may take its time: meanwhile the loop goes on.
        """
        is_last = False
        while not is_last:
            self._read_ignored()
            with suppress(TimeoutError):
                async with asyncio.timeout(KEEP_UP_S):
                    await self._unsaved.wait()
            self._unsaved.clear()
            is_last = self._is_over  # what came while the disk took its time is written, too
            await asyncio.to_thread(self._save, list(self._known()))

    def _read_ignored(self) -> None:
        """A table that is being edited, and broken for a moment, changes nothing."""
        try:
            self._gate.ignored = read_ignored(self._settings.paths.ignored_table)
        except (ConfigError, OSError) as error:
            log.warning("the ignored table cannot be read, what it said before holds: %s", error)

    def _known(self) -> Iterator[tuple[Memory, Mapping[str, Any]]]:
        for pace in self._gate.paces.values():
            yield pace.memory(), pace.audit(self._duty.ownership.rank)

    def _save(self, known: Sequence[tuple[Memory, Mapping[str, Any]]]) -> None:
        memories = {memory.group: memory for memory, _ in known}
        save_memories(self._duty.memory_file, memories, [audit for _, audit in known])

    def _learned(self) -> Iterator[Mapping[str, Any]]:
        return (audit for _, audit in self._known())


def _sentence(error: Exception) -> str:
    """Of what ended the keeping up: a DownloaderError has one, anything else is a fault of ours."""
    if isinstance(error, DownloaderError):
        return str(error)
    raise error
