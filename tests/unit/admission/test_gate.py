"""The one door: who is let through, who is sent away, and what is freed when somebody gives up."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from distributed_downloader.admission.gate import Gate, GateRules
from distributed_downloader.courtesy.budgets import Backoff, Budget
from distributed_downloader.courtesy.group_pace import GroupPace
from distributed_downloader.courtesy.ownership import Ownership
from distributed_downloader.records import ErrorClass, Failed, Redirected
from distributed_downloader.wire.fetching import Answer
from tests import virtual_time

BACKOFF = Backoff(first_s=10, jitter=0.0, breaker_failures=3)
OK = Answer(200, {}, 0.01, 1000)
DEAD = Answer(None, {}, 0.01, 0, ErrorClass.CONNECT)
URL = "http://a.org/1.jpg"


class Owners:
    """robots.txt and opt-outs: what they say is set by the test."""

    def __init__(self) -> None:
        self.no: Failed | None = None
        self.opts_out: Failed | None = None
        self.asks_for_robots = False

    async def refusal(self, url: str, turns: Gate) -> Failed | None:
        if self.asks_for_robots and await turns.admit_robots(url) is None:
            turns.heard_robots(url, OK)
        return self.no

    def opt_out(self, url: str, answer: Answer) -> Failed | None:
        return self.opts_out


class Door(Gate):
    """A gate of rank 0 of 2, whose groups are hosts; b.org belongs to rank 1."""

    def __init__(self, **budget: Any) -> None:
        self.owners = Owners()
        self.saved = 0
        rules = GateRules(
            Ownership(0, 2, {"a.org": 0, "cdn.org": 0, "b.org": 1}),
            group_of=lambda server: server,
            pace_of=lambda group, _server: self._pace(group, budget),
            on_block=self._save,
        )
        super().__init__(rules, self.owners)  # type: ignore[arg-type]

    def _pace(self, group: str, budget: dict[str, Any]) -> GroupPace:
        limits = {"rate": 10.0, "connections": 2, "backoff": BACKOFF, **budget}
        now = virtual_time.now
        return GroupPace(Budget(group, **limits), now=now, wall=now, chance=lambda: 0.0)

    def _save(self) -> None:
        self.saved += 1


def with_budgets(door: Door, **rates: float) -> Door:
    """Budgets of servers, by their names with _ for a dot."""

    def budget_of(group: str, server: str) -> Budget:
        return Budget(group, rates.get(server.replace(".", "_"), 10.0), connections=2)

    door._rules = replace(door._rules, group_of=lambda _: "a.org", budget_of=budget_of)
    return door


def run(main: Coroutine[Any, Any, None]) -> None:
    virtual_time.run(main)


async def let_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def error_of(outcome: object) -> ErrorClass:
    assert isinstance(outcome, Failed)
    return outcome.error_class


def test_what_another_rank_owns_is_left_to_it() -> None:
    async def main() -> None:
        door = Door()
        assert await door.admit("http://b.org/1.jpg") == Redirected("http://b.org/1.jpg")
        assert "b.org" not in door.paces

    run(main())


def test_an_ignored_server_is_not_asked_and_its_neighbour_is() -> None:
    async def main() -> None:
        door = Door()
        door.ignored = frozenset({"cdn.org"})
        outcome = await door.admit("http://cdn.org/1.jpg")
        assert error_of(outcome) is ErrorClass.OPTED_OUT
        assert isinstance(outcome, Failed)
        assert not outcome.retryable
        assert await door.admit(URL) is None

    run(main())


def test_an_owner_who_says_stop_is_obeyed_by_those_who_wait_for_their_turn() -> None:
    async def main() -> None:
        door = Door(rate=0.01)
        waiting = [asyncio.create_task(door.admit(URL)) for _ in range(4)]
        await let_run()
        door.ignored = frozenset({"a.org"})
        outcomes = await asyncio.gather(*waiting)
        assert {error_of(outcome) for outcome in outcomes} == {ErrorClass.OPTED_OUT}

    run(main())


def test_a_server_that_died_while_they_waited_is_not_hammered() -> None:
    async def main() -> None:
        door = Door(connections=8)
        waiting = [asyncio.create_task(door.admit(URL)) for _ in range(8)]
        await asyncio.sleep(0.35)
        sent = [task for task in waiting if task.done()]
        assert len(sent) == 3
        for _ in sent:
            door.heard(URL, DEAD)
        outcomes = await asyncio.gather(*waiting)
        assert [outcome for outcome in outcomes if outcome is None] == [None] * 3
        marked = door.refusal(URL)
        assert error_of(marked) is ErrorClass.SERVER_DOWN
        assert marked is not None
        assert marked.retryable
        assert marked.is_over_for_now

    run(main())


def test_no_more_requests_at_once_than_the_group_has_connections() -> None:
    async def main() -> None:
        door = Door(rate=1000.0, connections=2)
        waiting = [asyncio.create_task(door.admit(URL)) for _ in range(5)]
        await asyncio.sleep(1)
        assert sum(task.done() for task in waiting) == 2
        door.heard(URL, OK)
        await asyncio.sleep(1)
        assert sum(task.done() for task in waiting) == 3
        for task in waiting:
            task.cancel()

    run(main())


@pytest.mark.parametrize("rate", [1000.0, 0.001])
def test_who_gives_up_frees_the_connection(rate: float) -> None:
    """While it waits for a connection (fast), or with one for its turn (slow)."""

    async def main() -> None:
        door = Door(rate=rate, connections=1)
        first = asyncio.create_task(door.admit(URL))
        if rate > 1:
            assert await first is None
        second = asyncio.create_task(door.admit(URL))
        await let_run()
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        if rate > 1:
            door.heard(URL, OK)
        assert await asyncio.wait_for(door.admit(URL), 10 / rate) is None

    run(main())


@pytest.mark.parametrize("asks_for_robots", [False, True])
def test_nothing_is_sent_after_it_was_closed(asks_for_robots: bool) -> None:
    async def main() -> None:
        door = Door(rate=0.01)
        door.owners.asks_for_robots = asks_for_robots
        waiting = asyncio.create_task(door.admit(URL))
        await asyncio.sleep(150)  # a robots.txt had its turn, the image waits for its own
        if not asks_for_robots:
            assert waiting.done()
            waiting = asyncio.create_task(door.admit(URL))
            await let_run()
        assert not waiting.done()
        door.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        late = await door.admit(URL)
        assert error_of(late) is ErrorClass.INTERNAL
        assert isinstance(late, Failed)
        assert not late.costs_a_try

    run(main())


def test_robots_txt_is_obeyed_before_a_turn_is_used() -> None:
    async def main() -> None:
        door = Door()
        door.owners.no = Failed(ErrorClass.ROBOTS_DISALLOWED, -2, "no", retryable=False)
        assert error_of(await door.admit(URL)) is ErrorClass.ROBOTS_DISALLOWED
        assert door.paces == {}

    run(main())


def test_an_answer_that_opts_out_ends_the_row() -> None:
    async def main() -> None:
        door = Door()
        door.owners.opts_out = Failed(ErrorClass.OPTED_OUT, -2, "noai", retryable=False)
        assert await door.admit(URL) is None
        assert door.heard(URL, OK) == door.owners.opts_out

    run(main())


def test_a_refusal_is_on_the_disk_before_it_matters_and_costs_the_row_nothing() -> None:
    async def main() -> None:
        door = Door()
        assert await door.admit(URL) is None
        outcome = door.heard(URL, Answer(429, {"Retry-After": "60"}, 0.01, 0))
        assert door.saved == 1
        assert outcome is None  # the server told us: the try counts
        assert door.paces["a.org"].blocked_for_s() == pytest.approx(60)
        assert await door.admit(URL) is None  # a minute later
        assert virtual_time.now() > 60

    run(main())


def test_what_was_under_way_when_the_group_was_stopped_costs_the_row_nothing() -> None:
    async def main() -> None:
        door = Door()
        for _ in range(2):
            assert await door.admit(URL) is None
        door.heard(URL, Answer(429, {"Retry-After": "60"}, 0.01, 0))
        outcome = door.heard(URL, Answer(429, {}, 0.01, 0))
        assert isinstance(outcome, Failed)
        assert (outcome.retryable, outcome.costs_a_try) == (True, False)

    run(main())


def test_a_server_that_a_redirect_brings_into_the_group_brings_its_budget() -> None:
    async def main() -> None:
        door = with_budgets(Door(), slow_org=1.0)
        assert await door.admit(URL) is None
        assert door.paces["a.org"].budget.rate == 10.0
        door.heard(URL, OK)
        before = virtual_time.now()
        assert await door.admit("http://slow.org/1.jpg") is None
        assert virtual_time.now() - before >= 0.9
        assert door.paces["a.org"].budget.rate == 1.0

    run(main())


FORBIDDEN = Answer(403, {}, 0.01, 10)


def test_403s_in_a_row_may_mean_us_and_a_lone_one_means_the_image() -> None:
    async def main() -> None:
        door = Door()
        heard = []
        for _ in range(3):
            assert await door.admit(URL) is None
            heard.append(door.heard(URL, FORBIDDEN))
        assert heard[0] is None
        for failed in heard[1:]:
            assert failed is not None
            assert (failed.error_class, failed.error_code) == (ErrorClass.FORBIDDEN, 403)
            assert failed.retryable
            assert failed.is_over_for_now
        assert error_of(await door.admit(URL)) is ErrorClass.SERVER_DOWN

    run(main())


def test_a_403_that_says_when_to_come_back_means_us() -> None:
    async def main() -> None:
        door = Door()
        assert await door.admit(URL) is None
        failed = door.heard(URL, Answer(403, {"Retry-After": "60"}, 0.01, 10))
        assert failed is not None
        assert (failed.error_class, failed.retryable) == (ErrorClass.FORBIDDEN, True)

    run(main())
