"""Rows waiting in a rank: each handed out once, retries when they are ready, an end."""

import asyncio

import pytest

from distributed_downloader.paths import Batch
from distributed_downloader.records import Row, Try
from distributed_downloader.waves.group_queue import GroupQueue

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def rows(count: int):
    batch = Batch("a.test", 0)
    for number in range(count):
        yield Row(str(number), None, f"http://a.test/{number}", "a.test", batch)


def make_queue(source) -> GroupQueue:
    return GroupQueue(source, clock=asyncio.get_running_loop().time)


async def test_every_row_is_handed_out_once_in_order():
    queue = make_queue(rows(1000))
    seen = []
    async for attempt in queue.tries():
        seen.append(attempt.row.uuid)
        queue.settle()
    assert seen == [str(number) for number in range(1000)]


async def test_several_workers_share_the_rows_and_all_end():
    queue = make_queue(rows(500))
    seen: list[str] = []

    async def work():
        async for attempt in queue.tries():
            await asyncio.sleep(0)
            seen.append(attempt.row.uuid)
            queue.settle()

    await asyncio.gather(*(work() for _ in range(7)))
    assert sorted(seen, key=int) == [str(number) for number in range(500)]
    assert queue.is_finished


async def test_a_row_given_back_comes_again_with_its_tries_counted():
    queue = make_queue(rows(1))
    numbers = []
    async for attempt in queue.tries():
        numbers.append((attempt.number, attempt.requests))
        if attempt.number < 3:
            queue.give_back(attempt.again(counted=True), 0.001)
        else:
            queue.settle()
    assert numbers == [(1, 0), (2, 1), (3, 2)]


async def test_a_retry_does_not_come_before_its_time_and_others_go_on():
    now = 0.0
    queue = GroupQueue(rows(3), clock=lambda: now)
    order = []
    async for attempt in queue.tries():
        order.append(attempt.row.uuid)
        if order == ["0"]:
            queue.give_back(attempt.again(counted=True), 5.0)
            continue
        if order[-1] == "2":
            now = 5.0
        queue.settle()
    assert order == ["0", "1", "2", "0"]


async def test_no_rows_is_an_end():
    queue = make_queue(rows(0))
    assert [attempt async for attempt in queue.tries()] == []
    assert queue.is_finished


async def test_a_try_that_was_not_counted_still_counts_its_request():
    first = Try(next(rows(1)))
    assert first.again(counted=False) == Try(first.row, number=1, requests=1)


async def test_a_reader_that_fails_fails_all_who_wait_for_its_rows():
    def broken():
        yield from ()
        raise OSError("the disk is gone")

    queue = make_queue(broken())

    async def work():
        async for _ in queue.tries():
            pass

    async with asyncio.timeout(20):
        ended = await asyncio.gather(*(work() for _ in range(3)), return_exceptions=True)
        await queue.close()
    assert [str(error) for error in ended] == ["the disk is gone"] * 3


@pytest.mark.parametrize(
    ("counted", "number", "requests"),
    [([], 1, 0), ([True, True], 3, 2), ([False], 1, 1), ([False, True, False], 2, 3)],
)
async def test_tries_that_cost_nothing_are_told_from_the_others(counted, number, requests):
    attempt = Try(next(rows(1)))
    for one in counted:
        attempt = attempt.again(counted=one)
    assert (attempt.number, attempt.requests) == (number, requests)


async def test_rows_that_were_read_before_anybody_asks_are_handed_out_once():
    read = []

    def source():
        for row in rows(300):
            read.append(row.uuid)
            yield row

    queue = make_queue(source())
    await queue.fill()
    assert len(read) >= 1
    seen = []
    async for attempt in queue.tries():
        seen.append(attempt.row.uuid)
        queue.settle()
    assert seen == read == [str(number) for number in range(300)]


async def test_what_cannot_be_read_is_told_when_it_is_filled():
    def source():
        raise OSError("gone")
        yield

    with pytest.raises(OSError, match="gone"):
        await make_queue(source()).fill()
