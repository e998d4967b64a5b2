"""What a group remembers over a restart."""

import asyncio
import json
from dataclasses import replace

import pytest

from distributed_downloader.courtesy.group_pace import Memory, merge_memories
from tests import virtual_time
from tests.unit.courtesy.paces import BACKOFF, BUDGET, REFUSED, WALL, Heard, ask, pace_of, run


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
