"""What a group's answers mean: how long it is left alone, at what rate, for whose try."""

import asyncio
import itertools
from email.utils import formatdate

import pytest

from distributed_downloader.courtesy.group_pace import Verdict
from distributed_downloader.records import ErrorClass
from tests import virtual_time
from tests.unit.courtesy.paces import OK, REFUSED, WALL, Heard, ask, pace_of, run, times_of


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
