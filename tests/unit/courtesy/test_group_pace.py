"""One group over time: turns, answers, verdicts, memory. In virtual time."""

import asyncio
import itertools
import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.courtesy.audit import over_budget
from distributed_downloader.courtesy.budgets import Backoff, Budget
from distributed_downloader.courtesy.group_pace import GroupPace, Memory, Verdict, merge_memories
from distributed_downloader.fleet.judge import burst_needed
from distributed_downloader.records import ErrorClass
from distributed_downloader.tables import LEARNED
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


def test_requests_go_at_an_even_pace_and_start_one_interval_late() -> None:
    async def main() -> None:
        times = await times_of(pace_of(), 50)
        assert times == pytest.approx([0.1 * (n + 1) for n in range(50)])

    run(main())


def test_a_cancelled_turn_counts_nothing_and_holds_nobody_up() -> None:
    async def main() -> None:
        pace = pace_of()
        first, second = (asyncio.create_task(pace.turn()) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        await second
        assert virtual_time.now() == pytest.approx(0.1)
        assert first.cancelled()
        assert pace.audit(0)["requests"] == 1

    run(main())


@given(
    st.floats(0.5, 30.0), st.integers(1, 4), st.lists(st.floats(0.0, 2.0), min_size=8, max_size=40)
)
def test_whatever_connections_take_no_window_shows_more_than_rate_times_window_and_burst(
    rate: float, burst: int, connecting_s: list[float]
) -> None:
    left: list[float] = []

    async def one(pace: GroupPace, seconds: float) -> None:
        await pace.turn()
        await asyncio.sleep(seconds)
        assert await pace.leave()
        left.append(virtual_time.now())
        pace.heard(OK)

    async def main() -> None:
        pace = pace_of(replace(BUDGET, rate=rate, burst=burst, connections=100))
        await asyncio.gather(*(one(pace, seconds) for seconds in connecting_s))

    run(main())
    assert len(left) == len(connecting_s)
    assert burst_needed(left, rate) <= burst + 1e-5


def test_a_group_that_is_stopped_while_a_connection_is_made_is_not_asked() -> None:
    async def main() -> None:
        pace = pace_of()
        await pace.turn()
        await pace.turn()
        assert await pace.leave()
        waiting = asyncio.create_task(pace.leave())
        pace.heard(Heard(503, {"Retry-After": "30"}))
        assert not await waiting
        assert virtual_time.now() < 1
        assert not await pace.leave()

    run(main())


def test_while_nobody_is_there_a_group_rests_and_says_so_until_it_is_answered() -> None:
    async def main() -> None:
        pace = pace_of()
        await ask(pace, server="img.a.org")
        await pace.turn()
        pace.rest(virtual_time.now() + 20, 20)
        assert not await pace.leave()
        memory = pace.memory()
        assert (memory.witness, memory.answered) == ("img.a.org", pytest.approx(wall()))
        assert (memory.cut_until, memory.silent_s) == (pytest.approx(wall() + 20), 20)
        assert (memory.blocked_until, pace.blocked_for_s()) == (0, 20)
        pace.heard(Heard(None))  # given up: no answer
        assert pace.memory().silent_s == 20
        await ask(pace)
        assert virtual_time.now() >= 20
        assert (pace.memory().cut_until, pace.memory().silent_s) == (0, 0)

    run(main())


@pytest.mark.parametrize("retry_after", ["30", formatdate(WALL + 30.11, usegmt=True)])
def test_retry_after_stops_the_group_and_whoever_waits(retry_after: str) -> None:
    async def main() -> None:
        pace = pace_of()
        verdict = await ask(pace, Heard(429, {"Retry-After": retry_after}))
        heard_at = virtual_time.now()
        assert verdict.must_be_saved
        assert 29 <= verdict.blocked_for_s <= 30
        times = await times_of(pace, 8)
        assert times[0] >= heard_at + 29
        assert times[0] == pytest.approx(heard_at + verdict.blocked_for_s + 1 / pace.rate)

    run(main())


def test_a_block_that_begins_while_others_wait_holds_them_too() -> None:
    async def main() -> None:
        pace = pace_of()
        await pace.turn()
        waiting = asyncio.create_task(pace.turn())
        await asyncio.sleep(0.05)
        pace.heard(Heard(503, {"Retry-After": "30"}))
        await waiting
        assert virtual_time.now() > 30

    run(main())


def test_a_rate_signal_pauses_cuts_and_costs_no_try() -> None:
    async def main() -> None:
        pace = pace_of()
        for _ in range(5):
            await ask(pace)
        verdict = await ask(pace, REFUSED)
        assert not verdict.costs_a_try
        assert verdict.blocked_for_s == pytest.approx(10)
        assert pace.rate < 10
        assert verdict.sentence is not None
        assert "left alone for 10.0 s (429 above any proven rate)" in verdict.sentence
        assert "rate cut from 10/s to" in verdict.sentence

    run(main())


def test_refused_at_a_proven_rate_costs_a_try_and_doubles() -> None:
    async def main() -> None:
        pace = pace_of()
        for _ in range(300):
            await ask(pace)
        first = await ask(pace, REFUSED)
        again = await ask(pace, REFUSED)
        assert first.costs_a_try and again.costs_a_try
        assert (first.blocked_for_s, again.blocked_for_s) == pytest.approx((10, 20))
        assert "right after a block" in str(again.sentence)

    run(main())


def test_what_was_under_way_when_the_block_began_costs_no_try() -> None:
    async def main() -> None:
        pace = pace_of()
        for _ in range(3):
            await pace.turn()
        assert pace.heard(Heard(503)).costs_a_try
        rate, blocked_s = pace.rate, pace.blocked_for_s()
        for _ in range(2):
            verdict = pace.heard(Heard(503))
            assert not verdict.costs_a_try
            assert verdict.sentence is None
        assert (pace.rate, pace.blocked_for_s()) == (rate, blocked_s)
        assert pace.audit(0)["blocks"] == 1
        assert pace.audit(0)["refusals"] == 3

    run(main())


def test_a_url_that_always_answers_503_is_asked_a_counted_number_of_times() -> None:
    async def main() -> None:
        pace, tries, asked_at = pace_of(), 0, []
        while tries < 4:
            verdict = await ask(pace, Heard(503))
            asked_at.append(virtual_time.now())
            tries += verdict.costs_a_try
        assert len(asked_at) == 4
        gaps = [round(b - a) for a, b in itertools.pairwise(asked_at)]
        assert gaps == [10, 20, 40]

    run(main())


def test_a_used_up_quota_stops_the_group_without_blame() -> None:
    async def main() -> None:
        pace = pace_of()
        verdict = await ask(pace, Heard(200, {"RateLimit": '"d";r=0;t=60'}))
        assert verdict.costs_a_try
        assert verdict.blocked_for_s == pytest.approx(60)
        assert pace.rate == 10

    run(main())


def test_dead_servers_open_their_own_breaker_only() -> None:
    async def main() -> None:
        pace = pace_of()
        dead = Heard(None, error_class=ErrorClass.CONNECT)
        verdicts = [await ask(pace, dead, "dead.a.org") for _ in range(3)]
        assert [verdict.is_server_down for verdict in verdicts] == [False, False, True]
        assert pace.down_for_s("dead.a.org") == pytest.approx(10)
        assert pace.down_for_s("alive.a.org") == 0
        assert pace.blocked_for_s() == 0
        await asyncio.sleep(10)
        assert pace.down_for_s("dead.a.org") == 0
        assert (await ask(pace, dead, "dead.a.org")).is_server_down
        await asyncio.sleep(20)
        await ask(pace, OK, "dead.a.org")
        assert not (await ask(pace, dead, "dead.a.org")).is_server_down

    run(main())


def test_a_burst_of_403_opens_the_breaker_and_single_ones_do_not() -> None:
    async def main() -> None:
        pace = pace_of()
        forbidden = Heard(403, error_class=ErrorClass.FORBIDDEN)
        for _ in range(5):
            assert not (await ask(pace, forbidden)).is_server_down
            await ask(pace, Heard(404, error_class=ErrorClass.NOT_FOUND))
        assert [(await ask(pace, forbidden)).is_server_down for _ in range(3)][-1]

    run(main())


def test_a_request_that_we_gave_up_says_nothing() -> None:
    async def main() -> None:
        pace = pace_of()
        await pace.turn()
        assert pace.heard(Heard(None)) == Verdict()
        assert pace.audit(0)["requests"] == 1

    run(main())


def test_bytes_per_second_slow_the_next_request() -> None:
    async def main() -> None:
        pace = pace_of(replace(BUDGET, bytes_per_s=1000.0))
        for _ in range(21):
            await ask(pace, Heard(nbytes=1000))
        assert virtual_time.now() >= 19

    run(main())


def test_bytes_of_the_day_end_the_day_for_the_group() -> None:
    async def main() -> None:
        pace = pace_of(replace(BUDGET, bytes_per_day=10_000.0))
        for _ in range(10):
            await ask(pace, Heard(nbytes=1000))
        assert pace.blocked_for_s() > 80_000
        memory = pace.memory()
        assert memory.blocked_until > wall() + 80_000
        assert memory.cause == "bytes_per_day used up"
        after = pace_of(replace(BUDGET, bytes_per_day=10_000.0), memory)
        assert after.blocked_for_s() > 80_000
        assert pace_of(BUDGET, memory).blocked_for_s() == 0  # the budget was lifted

    run(main())


def test_outside_its_hours_a_group_waits() -> None:
    second = WALL % 86_400
    hours = ((second + 3600, second + 7200),)

    async def main() -> None:
        pace = pace_of(replace(BUDGET, hours=hours))
        assert pace.blocked_for_s() == pytest.approx(3600)
        await pace.turn()
        assert virtual_time.now() == pytest.approx(3600)

    run(main())


def test_a_crawl_delay_read_on_the_way_holds_from_then_on() -> None:
    async def main() -> None:
        pace = pace_of()
        await ask(pace)
        pace.keep_apart(5.0)
        times = await times_of(pace, 3, workers=1)
        assert times[1] - times[0] >= 4.9
        assert times[2] - times[1] == pytest.approx(5.0)
        pace.keep_apart(1.0)
        assert pace.budget.rate == pytest.approx(0.2)

    run(main())


def test_a_restart_keeps_the_block_the_rate_and_starts_empty() -> None:
    async def main() -> None:
        pace = pace_of()
        for _ in range(30):
            await ask(pace)
        await ask(pace, Heard(429, {"Retry-After": "30"}))
        saved = json.loads(json.dumps(pace.memory().as_json()))
        await asyncio.sleep(12)
        again = pace_of(BUDGET, Memory.from_json(saved))
        assert again.blocked_for_s() == pytest.approx(18)
        assert again.rate == pytest.approx(pace.rate)
        start = virtual_time.now()
        await again.turn()
        assert virtual_time.now() - start == pytest.approx(18 + 1 / again.rate)

    run(main())


def test_a_restart_right_after_a_block_still_doubles() -> None:
    async def main() -> None:
        pace = pace_of()
        for _ in range(300):
            await ask(pace)
        await ask(pace, REFUSED)
        again = pace_of(BUDGET, pace.memory())
        assert (await ask(again, REFUSED)).blocked_for_s == pytest.approx(20)

    run(main())


def test_a_wall_clock_gone_wrong_blocks_no_longer_than_the_cap() -> None:
    async def main() -> None:
        memory = Memory("a.org", refused_until=WALL + 1e9, block_s=10.0)
        assert pace_of(BUDGET, memory).blocked_for_s() == BACKOFF.max_s

    run(main())


def test_without_a_refusal_nothing_is_learned_and_a_new_limit_counts() -> None:
    async def main() -> None:
        pace = pace_of(replace(BUDGET, rate=3.0))
        for _ in range(100):
            await ask(pace)
        assert pace.memory().rate == 0
        assert pace_of(BUDGET, pace.memory()).rate == 10

    run(main())


def test_the_audit_is_a_row_of_the_learned_table_and_within_the_budget() -> None:
    async def main() -> None:
        pace = pace_of(replace(BUDGET, burst=3))
        await times_of(pace, 200)
        await asyncio.sleep(5)
        await times_of(pace, 20)
        row = pace.audit(rank=2)
        table = pl.DataFrame([row], LEARNED)
        assert table.schema == LEARNED
        assert set(row) == set(LEARNED)
        assert (row["requests"], row["rank"], row["limit"]) == (220, 2, 10.0)
        assert 10 <= row["peak_1s"] <= 13
        assert over_budget(row) is None

    run(main())


def test_merged_memories_keep_the_newest_word_the_longest_block_and_all_bytes() -> None:
    old = Memory(
        "g", written=1.0, blocked_until=90.0, refused_until=90.0, block_s=40.0, cause="429",
        rate=5.0, refused=6.0, last_request=1.0, hour_bytes=((1, 10), (2, 5)),
    )  # fmt: skip
    new = Memory(
        "g", written=2.0, refused_until=50.0, block_s=10.0, rate=7.0, refused=8.0,
        last_request=2.0, hour_bytes=((2, 9), (3, 1)),
    )  # fmt: skip
    merged = merge_memories([new, old])
    assert merged == merge_memories([old, new])
    assert (merged.rate, merged.refused, merged.last_request) == (7.0, 8.0, 2.0)
    assert (merged.blocked_until, merged.refused_until, merged.block_s) == (90.0, 90.0, 40.0)
    assert merged.cause == "429"
    assert merged.hour_bytes == ((1, 10), (2, 9), (3, 1))
    assert merge_memories([new]) == new


def test_a_memory_of_another_version_is_read_as_far_as_it_goes() -> None:
    assert Memory.from_json({"group": "g", "rate": 2.0, "colour": "red"}) == Memory("g", rate=2.0)


def test_a_tighter_budget_holds_at_once_and_a_looser_one_changes_nothing() -> None:
    async def main() -> None:
        pace = pace_of(replace(BUDGET, rate=100.0, burst=10))
        await asyncio.sleep(1.0)
        pace.tighten(Budget("a.org", 1000.0, burst=100, backoff=BACKOFF))
        assert (pace.budget.rate, pace.budget.burst) == (100.0, 10)
        pace.tighten(Budget("a.org", 2.0, burst=1, backoff=BACKOFF))
        start = virtual_time.now()
        times = [time - start for time in await times_of(pace, 5)]
        assert times == pytest.approx([0.0, 0.48, 0.98, 1.48, 1.98], abs=0.05)

    run(main())


def test_fewer_connections_hold_for_those_that_come_after() -> None:
    async def main() -> None:
        pace = pace_of(replace(BUDGET, rate=100.0, connections=4))
        for _ in range(3):
            await pace.turn()
        pace.tighten(Budget("a.org", 100.0, connections=2, backoff=BACKOFF))
        waiting = asyncio.create_task(pace.turn())
        await asyncio.sleep(5.0)
        pace.heard(OK)
        await asyncio.sleep(5.0)
        assert not waiting.done()
        pace.heard(OK)
        await asyncio.sleep(0.1)
        assert waiting.done()

    run(main())


def test_bytes_that_a_tighter_budget_counts_are_counted_from_then_on() -> None:
    async def main() -> None:
        pace = pace_of()
        await ask(pace, Heard(nbytes=1000))
        pace.tighten(Budget("a.org", 10.0, bytes_per_s=100.0, backoff=BACKOFF))
        await ask(pace, Heard(nbytes=1000))
        before = virtual_time.now()
        await pace.turn()
        assert virtual_time.now() - before == pytest.approx(10.0, abs=0.2)

    run(main())


@pytest.mark.parametrize("status", [301, 403, 404, 500, 502])
def test_retry_after_stops_the_group_with_whatever_refusal_it_comes(status: int) -> None:
    async def main() -> None:
        pace = pace_of()
        verdict = await ask(pace, Heard(status, {"Retry-After": "600"}))
        assert verdict.blocked_for_s == pytest.approx(600)
        assert verdict.must_be_saved
        assert pace.memory().cause == f"{status} with Retry-After"
        await asyncio.sleep(600)
        assert (await ask(pace, Heard(200, {"Retry-After": "600"}))).blocked_for_s == 0

    run(main())


def test_who_waits_at_the_door_when_the_hours_end_does_not_go_out() -> None:
    second = WALL % 86_400

    async def main() -> None:
        pace = pace_of(replace(BUDGET, hours=((second, second + 10),)))
        await pace.turn()
        await asyncio.sleep(5.0)
        assert await pace.leave()
        await pace.turn()
        await asyncio.sleep(10.0)
        assert not await pace.leave()

    run(main())


def test_a_debt_of_bytes_outlives_a_tighter_budget_and_a_restart() -> None:
    async def main() -> None:
        budget = replace(BUDGET, bytes_per_s=100.0)
        pace = pace_of(budget)
        await ask(pace, Heard(nbytes=10_000))  # 100 s
        pace.tighten(replace(budget, bytes_per_hour=1e9))
        await asyncio.sleep(39.0)
        memory = Memory.from_json(json.loads(json.dumps(pace.memory().as_json())))
        await asyncio.sleep(10.0)
        await pace_of(budget, memory).turn()
        assert virtual_time.now() == pytest.approx(100.0)

    run(main())
