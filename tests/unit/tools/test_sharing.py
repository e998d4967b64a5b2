"""Ranks share partitions out: who is free takes over, and what stops one stops all."""

import asyncio
import threading

import pytest

from distributed_downloader.tools.sharing import Desk, Sharing


class Town:
    """Worlds of several ranks in one loop."""

    def __init__(self, size):
        self.inboxes = [[] for _ in range(size)]
        self.barrier = asyncio.Barrier(size)
        self.worlds = [TownWorld(self, rank) for rank in range(size)]


class TownWorld:
    def __init__(self, town, rank):
        self.town, self.rank, self.size = town, rank, len(town.inboxes)

    def tell(self, rank, message):
        self.town.inboxes[rank].append(message)

    def heard(self):
        inbox = self.town.inboxes[self.rank]
        while inbox:
            yield inbox.pop(0)

    async def barrier(self):
        await self.town.barrier.wait()

    async def fall_silent(self):
        self.town.inboxes[self.rank].clear()


async def share(meant_for, work, size):
    town = Town(size)
    ranks = [
        Sharing(world, meant_for, lambda item, rank=world.rank: work(rank, item), lambda: 0)
        for world in town.worlds
    ]
    await asyncio.wait_for(asyncio.gather(*(rank.run() for rank in ranks)), 20)
    return ranks


@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_item_is_done_once(size):
    done = []
    asyncio.run(share([0] * 5 + [3] * 4 + [1], lambda rank, item: done.append(item), size))
    assert sorted(done) == list(range(10))


def test_a_free_rank_takes_over_from_one_that_is_held_up():
    rest_is_done, done = threading.Event(), {0: [], 1: []}

    def work(rank, item):
        if rank == 0 and item == 0:
            assert rest_is_done.wait(15)
        done[rank].append(item)
        if len(done[1]) == 5:
            rest_is_done.set()

    asyncio.run(share([0, 0, 0, 0, 0, 1], work, 2))
    assert done == {0: [0], 1: [5, 4, 3, 2, 1]}


@pytest.mark.parametrize("culprit", [0, 1])
def test_what_stops_one_rank_stops_all(culprit):
    begun = threading.Barrier(2, timeout=15)

    def work(rank, item):
        begun.wait()  # no third item is ever begun
        return "the disk is full" if rank == culprit else stopped(rank)

    def stopped(rank):
        assert ranks_stop.wait(15)

    ranks_stop = threading.Event()

    async def both():
        town = Town(2)
        ranks = [
            Sharing(world, [0, 1] * 5, lambda item, rank=world.rank: work(rank, item), lambda: 0)
            for world in town.worlds
        ]

        async def pass_on():
            while not ranks[1 - culprit].stop.is_set():
                await asyncio.sleep(0.01)
            ranks_stop.set()

        await asyncio.wait_for(asyncio.gather(*(rank.run() for rank in ranks), pass_on()), 20)
        return ranks

    assert [rank.stopped for rank in asyncio.run(both())] == ["the disk is full"] * 2


def test_the_desk_hands_out_own_items_first_then_the_last_of_the_longest():
    desk = Desk([0, 0, 0, 1, 2])
    assert [desk.next_for(1), desk.next_for(1), desk.next_for(0)] == [3, 2, 0]
    desk.close()
    assert desk.next_for(0) is None
