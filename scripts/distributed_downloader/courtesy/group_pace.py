"""One group over time, in the one rank that owns it: when to ask, and what its answers change.

`turn` waits until all budgets allow a request and counts it; `leave`, once its connection stands,
until it may go out; `heard` takes every answer and says what it means for the row. The decisions
are in limiter, door, allowance, lessons and breaker; here they meet. Inside runs a monotonic clock;
wall-clock time is only for what goes to the disk.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable
from typing import Any

from distributed_downloader.courtesy import backoff
from distributed_downloader.courtesy.allowance import Allowance, closed_for_s
from distributed_downloader.courtesy.answers import Answered, Verdict
from distributed_downloader.courtesy.audit import Tallies
from distributed_downloader.courtesy.breaker import Breakers
from distributed_downloader.courtesy.budgets import Budget, stricter
from distributed_downloader.courtesy.door import Door, doze
from distributed_downloader.courtesy.lessons import Lessons
from distributed_downloader.courtesy.limiter import Limiter
from distributed_downloader.courtesy.memory import Memory, merge_memories

__all__ = ["Answered", "GroupPace", "Memory", "Verdict", "merge_memories"]

Clock = Callable[[], float]

FULL_S = 3600.0  # any answer ends this wait


class GroupPace:
    """A group's turns, in order; any number of workers may wait for one."""

    def __init__(
        self,
        budget: Budget,
        memory: Memory | None = None,
        *,
        now: Clock = time.monotonic,
        wall: Clock = time.time,
        chance: Clock = random.random,
    ) -> None:
        self._budget = self._widest = budget
        self._now, self._wall = now, wall
        memory = memory or Memory(budget.group)
        start = now()
        self._lessons = Lessons(budget, memory, start, wall(), chance)
        self._turns = Limiter(self.rate, self._burst, start, is_lenient=True)
        self._door = Door(budget.rate, budget.burst, now)
        self._empty(max(start, self._blocked_until))
        self._mean_bytes_before = memory.mean_bytes
        used, owed = (memory.hour_bytes, memory.day_bytes), memory.owed(wall(), budget.bytes_per_s)
        self._allowance = Allowance(budget, used, start, owed)
        self._breakers = Breakers()
        self._met, self._robots_at = set(memory.servers), set(memory.robots_at)
        self._witness, self._answered_at = memory.witness, memory.answered
        self._cut_until, self._silent_s = -math.inf, 0.0
        self._tallies = Tallies(last_request=memory.last_request)
        self._under_way = 0
        self._line = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def budget(self) -> Budget:
        """As given, or tightened by `keep_apart`."""
        return self._budget

    @property
    def connections(self) -> int:
        """How many requests may be under way at once."""
        return self._budget.connections

    @property
    def rate(self) -> float:
        """Requests per second, as learned so far."""
        return self._lessons.rates.rate

    @property
    def _burst(self) -> int:
        return self._budget.burst if self._lessons.rates.refused is None else 1

    @property
    def _blocked_until(self) -> float:
        return self._lessons.state.blocked_until

    async def turn(self) -> None:
        """Wait until a request may be made ready, and count it. First come, first.

        Cancelled while it waits, it has counted nothing.
        """
        async with self._line:
            while (delay_s := self._delay_s()) > 0:
                await doze(self._changed, delay_s)  # an answer may change what to wait for
            now = self._now()
            self._turns.take(now)
            self._under_way += 1
            self._tallies.turn(self._wall())

    async def leave(self) -> bool:
        """Wait until a request whose turn it was may go out; False: the group was stopped."""
        may_go = await self._door.leave(self._is_stopped)
        if may_go:
            self._tallies.sent(self._now())
        return may_go

    def _is_stopped(self) -> bool:
        is_blocked = max(self._blocked_until, self._cut_until) > self._now()
        return is_blocked or closed_for_s(self._budget.hours, self._wall()) > 0

    def rest(self, until: float, seconds: float) -> None:
        """Nobody is there: ask nothing until then, at the end of a rest of so many seconds."""
        self._cut_until, self._silent_s = until, seconds
        self._empty(until)
        self._changed.set()

    def _empty(self, until: float) -> None:
        self._turns.empty(until)
        self._door.empty(until)

    def _delay_s(self) -> float:
        now = self._now()
        if self._under_way >= self._budget.connections:  # fewer than when the rank began
            return FULL_S
        return max(self._turns.delay_s(now), self._allowance.debt_s(now), self.blocked_for_s())

    def blocked_for_s(self) -> float:
        """Seconds until the group may be asked at all: blocks, hours, bytes of hour and day."""
        return max(seconds for seconds, _ in self._blocks())

    def _blocks(self) -> list[tuple[float, str]]:
        expected = (self._under_way + 1) * max(self._mean_bytes, 1.0)
        refused_s = max(0.0, self._blocked_until - self._now())
        return [
            (refused_s, self._lessons.state.cause),
            (max(0.0, self._cut_until - self._now()), backoff.CUT_OFF),
            *self._allowance.closed(expected, self._wall()),
        ]

    @property
    def _mean_bytes(self) -> float:
        return self._tallies.mean_bytes or self._mean_bytes_before

    def down_for_s(self, server: str) -> float:
        """Seconds that this server's breaker stays open: its rows wait for a later wave."""
        return max(0.0, self._breakers.of(server).open_until - self._now())

    def why_down(self, server: str) -> str:
        """What this server failed with, the last time."""
        return self._breakers.of(server).cause

    def keep_apart(self, delay_s: float | None) -> None:
        """Obey a Crawl-delay (seconds) from now on."""
        self._go_by(self._budget.with_crawl_delay(delay_s))

    def robots_lead_to(self, server: str) -> None:
        """A robots.txt of the group is at this server of another: the next plan must know."""
        self._robots_at.add(server)

    def tighten(self, budget: Budget) -> None:
        """Another server of the group turned up: from now on its budget holds, too."""
        self._go_by(stricter(self._budget, budget))

    def _go_by(self, budget: Budget) -> None:
        before, self._budget = self._budget, budget
        if budget.bytes_and_hours != before.bytes_and_hours:
            used, now = self._allowance.used(self._wall()), self._now()
            self._allowance = Allowance(budget, used, now, self._allowance.owed(now))
        self._lessons.limit(budget.rate, self._now())
        self._turns.set_rate(self.rate, self._burst, self._now())
        self._door.set_rate(budget.rate, budget.burst)

    def heard(self, answer: Answered, server: str = "") -> Verdict:
        """Once for every turn: what came of it, from which of the group's servers."""
        self._under_way = max(0, self._under_way - 1)
        self._met.update([server] if server else [])
        self._changed.set()
        if answer.status is None and answer.error_class is None:
            return Verdict(blocked_for_s=self.blocked_for_s())
        now = self._now()
        if answer.status is not None:
            self._witness, self._answered_at, self._silent_s = server, self._wall(), 0.0
        self._tallies.heard(answer.status or 0, answer.latency_s, answer.nbytes)
        self._allowance.received(answer.nbytes, now, self._wall())
        before = self._lessons.seen
        costs_a_try = self._lessons.heard(answer, now, self._wall())
        self._obey(*before, now)
        state = self._breakers.heard(answer, server, now, self._budget.backoff)
        return Verdict(
            costs_a_try=costs_a_try,
            blocked_for_s=self.blocked_for_s(),
            is_server_down=state.open_until > now,
            is_in_burst=state.failures > 1 or state.open_s > 0,
            must_be_saved=self._lessons.are_stricter_than(*before),
            sentence=self._lessons.change_since(*before, now),
        )

    def _obey(self, blocked_until: float, rate: float, now: float) -> None:
        """Act on what is another by now than it was."""
        if self.rate != rate:
            self._turns.set_rate(self.rate, self._burst, now)
        if self._blocked_until > blocked_until:
            self._tallies.blocks += blocked_until <= now
            self._empty(self._blocked_until)

    def memory(self) -> Memory:
        """What must outlive this process."""
        now, wall = self._now(), self._wall()
        state, learned = self._lessons.state, self._lessons.rates
        blocked_s, cause = max(block for block in self._blocks() if block[1] != backoff.CUT_OFF)
        cut_s = self._cut_until - now
        hour_bytes, day_bytes = self._allowance.used(wall)
        return Memory(
            group=self._budget.group,
            written=wall,
            blocked_until=wall + blocked_s if blocked_s > 0 else 0.0,
            refused_until=max(0.0, wall + state.blocked_until - now),
            block_s=backoff.forgiven(state, now, self._budget.backoff).block_s,
            cause=cause if blocked_s > 0 else state.cause,
            accepted=state.accepted,
            rate=learned.rate if learned.refused else 0.0,
            proven=learned.proven,
            refused=learned.refused or 0.0,
            mean_bytes=self._mean_bytes,
            last_request=self._tallies.last_request,
            hour_bytes=hour_bytes,
            day_bytes=day_bytes,
            bytes_owed=self._allowance.owed(now),
            servers=tuple(sorted(self._met)),
            robots_at=tuple(sorted(self._robots_at)),
            witness=self._witness,
            answered=self._answered_at,
            cut_until=wall + cut_s if cut_s > 0 and self._silent_s else 0.0,
            silent_s=self._silent_s,
        )

    def audit(self, rank: int) -> dict[str, Any]:
        """The group's row of tables.LEARNED."""
        memory, learned = self.memory(), self._lessons.rates
        return {
            "group": memory.group,
            "rank": rank,
            "limit": self._widest.rate,
            "rate": learned.rate,
            "proven_rate": learned.proven,
            "refused_rate": learned.refused,
            "blocked_until": memory.blocked_until,
            "block_s": memory.block_s,
            "block_cause": memory.cause,
            "burst": self._widest.burst,
            **self._tallies.columns(),
        }
