import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_downloader.wire.room import FIRST_BYTES, Place, Room


def run(awaitable):
    return asyncio.run(asyncio.wait_for(awaitable, 20))


async def settled():
    """Let everything go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_comes_first_is_served_first_and_a_large_one_is_not_passed_by():
    async def main():
        room, order = Room(100), []

        async def body(name, nbytes):
            await room.take(nbytes)
            order.append(name)

        await room.take(60)
        waiting = [asyncio.create_task(body(*one)) for one in (("large", 90), ("small", 10))]
        await settled()
        assert order == []
        room.give(60)
        await asyncio.gather(*waiting)
        assert order == ["large", "small"]
        assert room.taken == 100

    run(main())


def test_one_that_is_larger_than_the_room_gets_it_alone():
    async def main():
        room = Room(100)
        await room.take(1_000)
        other = asyncio.create_task(room.take(1))
        await settled()
        assert not other.done()
        room.give(1_000)
        await other
        assert room.taken == 1

    run(main())


def test_who_is_cancelled_while_waiting_takes_nothing():
    async def main():
        room = Room(10)
        await room.take(10)
        gone, stays = (asyncio.create_task(room.take(5)) for _ in range(2))
        await settled()
        gone.cancel()
        await settled()
        room.give(10)
        await stays
        assert room.taken == 5

    run(main())


def test_a_body_that_was_cancelled_as_its_turn_came_gives_it_back():
    async def main():
        room = Room(10)
        await room.take(10)
        task = asyncio.create_task(room.take(5))
        await settled()
        room.give(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert room.taken == 0

    run(main())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=25), st.integers(0, 2**32))
def test_bodies_of_any_length_are_all_read_and_never_weigh_much_more_than_the_room(sizes, seed):
    """Bodies that do not say how long they are, each growing as it is read."""
    most, seen = 8 * FIRST_BYTES, []

    async def body(room, chance, chunks):
        place = Place(room)
        for number in range(1, chunks + 1):
            await place.reserve(number * FIRST_BYTES)
            seen.append(room.taken)
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
        await place.settle(chunks * FIRST_BYTES - 5)
        assert place.held == chunks * FIRST_BYTES - 5
        place.leave()
        place.leave()

    async def main():
        room, chance = Room(most), random.Random(seed)
        await asyncio.gather(*(body(room, chance, chunks) for chunks in sizes))
        assert room.taken == 0
        assert not room.overdraft.locked()

    run(main())
    assert max(seen) <= most + max(sizes) * FIRST_BYTES
