"""When a group is asked: its turns, its budgets, and what changes them on the way."""

import asyncio
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.courtesy.audit import over_budget
from distributed_downloader.courtesy.budgets import Budget
from distributed_downloader.courtesy.group_pace import GroupPace
from distributed_downloader.fleet.judge import burst_needed
from distributed_downloader.tables import LEARNED
from tests import virtual_time
from tests.unit.courtesy.paces import (
    BACKOFF,
    BUDGET,
    OK,
    WALL,
    Heard,
    ask,
    pace_of,
    run,
    times_of,
    wall,
)


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
