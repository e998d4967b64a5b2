"""One rank at work: what becomes of every outcome, and how it ends, come what may."""

import asyncio
import math

import httpx
import pytest

from distributed_downloader.errors import StorageError
from distributed_downloader.waves.group_queue import GroupQueue
from distributed_downloader.waves.rank import Rank
from tests.unit.waves.rank_at_work import Gate, InThisThread, Store, Work, ok, rows

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick")]


@pytest.fixture
def anyio_backend():
    return "asyncio"


# ---------------------------------------------------------------- outcomes


async def test_every_row_gets_its_outcome_once(tmp_path):
    urls = [f"http://a.org/{number}" for number in range(40)]
    work = Work(tmp_path, ok)
    tally = await work.run(*urls)
    assert sorted(work.asked) == sorted(work.store.images) == sorted(urls)
    assert (tally.settled, tally.images, tally.errors) == (40, 40, 0)
    assert work.queue.is_finished
    assert work.store.flushes == 1


async def test_no_rows_and_no_groups_are_an_end(tmp_path):
    work = Work(tmp_path, ok)
    assert (await work.run()).settled == 0
    async with asyncio.timeout(20):
        await Rank(
            work.settings, work.effort, Gate(), None, Store(), lambda _row, _outcome: None
        ).run({})


# ---------------------------------------------------------------- ends


async def test_a_store_that_fails_ends_the_rank_and_what_it_holds_is_flushed(tmp_path):
    store = Store(fails_at=3)

    async def endless(request):
        await asyncio.sleep(0.001)
        return ok(request)

    work = Work(tmp_path, endless, store=store)
    with pytest.raises(StorageError, match="the disk is full"):
        await work.run(*(f"http://a.org/{number}" for number in range(10_000)))
    assert store.flushes == 1
    assert len(store.images) < 10_000


async def test_a_fault_in_the_codec_is_not_lost(tmp_path, monkeypatch):
    async def break_down(_self, _body, **_promised):
        raise MemoryError("no memory")

    monkeypatch.setattr(InThisThread, "encode", break_down)
    work = Work(tmp_path, ok)
    with pytest.raises(MemoryError):
        await work.run(*(f"http://a.org/{number}" for number in range(20)))
    assert work.store.flushes == 1


async def test_with_only_blocked_groups_left_it_waits_says_so_and_is_told_to_end(tmp_path):
    gate = Gate()
    gate.paces["a.org"].blocked_s = 31.0
    work, rests_s = Work(tmp_path, ok, gate=gate), []

    def end_when_it_says_so(rank):
        def look():
            rests_s.append(rank.tally.rests_s)
            (rank.stop if rank.tally.rests_s else lambda: loop.call_later(0.001, look))()

        loop = asyncio.get_running_loop()
        loop.call_soon(look)

    tally = await work.run("http://a.org/1", started=end_when_it_says_so)
    assert rests_s[-1] == 31.0
    assert (tally.settled, tally.blocked, tally.rests_s) == (0, ("a.org",), math.inf)
    assert gate.is_closed
    assert work.asked == []


async def test_a_block_that_ends_is_waited_for(tmp_path):
    gate = Gate()
    gate.paces["a.org"].blocked_s = 29.0
    work = Work(tmp_path, ok, gate=gate)

    def unblock_later(rank):
        def look():
            if rank.tally.blocked:
                gate.paces["a.org"].blocked_s = 0.0
            else:
                loop.call_later(0.001, look)

        loop = asyncio.get_running_loop()
        loop.call_soon(look)

    assert (await work.run("http://a.org/1", started=unblock_later)).images == 1


async def test_told_to_stop_it_stores_what_is_under_way_and_asks_for_nothing_more(tmp_path):
    rank = None

    async def slow(request):
        rank.stop(10.0)
        await asyncio.sleep(0.02)
        return ok(request)

    def started(one):
        nonlocal rank
        rank = one

    gate = Gate()
    gate.paces["a.org"].connections = 1
    work = Work(tmp_path, slow, gate=gate)
    tally = await work.run(*(f"http://a.org/{n}" for n in range(5)), started=started)
    assert work.asked == ["http://a.org/0"]
    assert (list(work.store.images), tally.settled) == (["http://a.org/0"], 1)
    assert work.store.flushes == 1


async def test_what_takes_too_long_to_end_is_given_up(tmp_path):
    async def hanging(_request):
        work.rank.stop()
        await asyncio.Event().wait()

    work = Work(tmp_path, hanging)
    tally = await work.run("http://a.org/1")
    assert (tally.settled, work.store.errors, work.store.flushes) == (0, {}, 1)


async def test_a_reader_that_fails_ends_the_rank(tmp_path):
    work = Work(tmp_path, ok)

    def broken():
        yield from rows("http://a.org/1")
        raise OSError("the disk is gone")

    async with httpx.AsyncClient(transport=httpx.MockTransport(work.handle)) as client:
        rank = Rank(
            work.settings, work.effort, work.gate, client, work.store, lambda _row, _outcome: None
        )
        queue = GroupQueue(broken(), asyncio.get_running_loop().time)
        with pytest.raises(OSError, match="the disk is gone"):
            async with asyncio.timeout(20):
                await rank.run({"a.org": queue})
    assert work.store.flushes == 1
