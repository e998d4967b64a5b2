"""Whether nobody is there at all, or one server only. In virtual time."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import pytest

from distributed_downloader.admission import outage as room
from distributed_downloader.admission.outage import BELIEVED_S, WITNESSES, Outage
from distributed_downloader.courtesy.budgets import Backoff
from distributed_downloader.courtesy.memory import Memory
from tests import virtual_time

BACKOFF = Backoff(first_s=10, factor=2, max_s=60)
WALL = 1_800_000_000.0


class Net:
    """Servers that take a connection, and what was tried."""

    def __init__(self, *there: str) -> None:
        self.there = set(there)
        self.tried: list[str] = []

    async def connects(self, server: str) -> bool:
        self.tried.append(server)
        await asyncio.sleep(0.1)
        return server in self.there


def outage_of(net: Net, memories: Iterable[Memory] = ()) -> Outage:
    known = {memory.group: memory for memory in memories}
    now = virtual_time.now
    return Outage(net.connects, BACKOFF, known, now=now, wall=lambda: WALL + now())


def known(*groups: str, **facts: Any) -> list[Memory]:
    return [Memory(group, witness=f"www.{group}", answered=WALL, **facts) for group in groups]


def run(main: Coroutine[Any, Any, None]) -> None:
    virtual_time.run(main)


def test_an_answer_since_it_was_begun_is_proof_enough() -> None:
    async def main() -> None:
        net = Net()
        outage = outage_of(net, known("a.org"))
        began = virtual_time.now()
        await asyncio.sleep(1)
        outage.heard("b.org", "b.org")
        assert not await outage.is_cut_off(began)
        assert net.tried == []

    run(main())


def test_a_server_is_dead_if_another_takes_a_connection_and_many_failures_are_one_look() -> None:
    async def main() -> None:
        net = Net("www.a.org")
        outage = outage_of(net, known("a.org", "dead.org"))
        assert await asyncio.gather(*(outage.is_cut_off(0.0) for _ in range(50))) == [False] * 50
        assert sorted(net.tried) == ["www.a.org", "www.dead.org"]
        for _ in range(3):
            await asyncio.sleep(0.01)
            assert not await outage.is_cut_off(virtual_time.now())
        assert virtual_time.now() >= 3 * room.LOOK_S  # a witness is not tried again and again
        assert outage.until < 0

    run(main())


def test_with_nobody_there_it_rests_longer_each_time_until_somebody_answers() -> None:
    async def main() -> None:
        net = Net()
        outage = outage_of(net, known("a.org", "b.org"))
        rests = []
        for _ in range(4):
            assert await asyncio.gather(*(outage.is_cut_off(virtual_time.now()) for _ in "ab")) == [
                True,
                True,
            ]
            rests.append(outage.until - virtual_time.now())
            await asyncio.sleep(rests[-1])
        assert rests == pytest.approx([10, 20, 40, 60])
        began = virtual_time.now()
        outage.heard("a.org", "www.a.org")
        assert not await outage.is_cut_off(began)
        assert await outage.is_cut_off(began - 70)  # it was under way while nobody was there
        await asyncio.sleep(1)
        assert await outage.is_cut_off(virtual_time.now())
        assert outage.rest_s == 10

    run(main())


def test_the_next_wave_goes_on_where_the_last_one_rested() -> None:
    async def main() -> None:
        memories = known("a.org", written=1.0, silent_s=10.0) + known("b.org", written=2.0)
        assert outage_of(Net(), memories).rest_s == 0  # somebody answered since
        outage = outage_of(Net(), known("a.org", written=1.0, silent_s=20.0))
        assert await outage.is_cut_off(0.0)
        assert outage.rest_s == 40

    run(main())


@pytest.mark.parametrize(
    ("groups", "answered", "is_cut_off"),
    [
        ([], 0.0, False),  # nobody has ever answered: they may all be dead
        (["a.org"], WALL - BELIEVED_S + 9, True),
        (["a.org"], WALL - BELIEVED_S - 9, False),  # perhaps it is dead itself
        (["a.org", "b.org"], WALL - 9 * BELIEVED_S, True),  # not both
    ],
)
def test_who_is_believed(groups: list[str], answered: float, is_cut_off: bool) -> None:
    async def main() -> None:
        memories = [Memory(group, witness=group, answered=answered) for group in groups]
        assert await outage_of(Net(), memories).is_cut_off(0.0) == is_cut_off

    run(main())


def test_a_look_tries_a_few_servers_of_different_groups() -> None:
    async def main() -> None:
        net = Net()
        outage = outage_of(net)
        for number in range(100):
            outage.heard(f"{number % 50}.org", f"www{number}.{number % 50}.org")
        await asyncio.sleep(1)
        assert await outage.is_cut_off(virtual_time.now())
        assert len({server.partition(".")[2] for server in net.tried}) == WITNESSES

    run(main())
