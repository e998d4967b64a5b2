"""What the ranks of a wave tell each other while they work: how far they are, and to stop.

Every rank tells rank 0 once a second how far it is. What must stop everybody (a signal, a stop
request, a full disk) goes to rank 0, and from there to all.
"""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from distributed_downloader.mpi import World
from distributed_downloader.waves.progress import Progress

ONLY_RESTING = "only servers that rest are left"  # no interruption: the wave's own end


@dataclass(slots=True)
class Tally:
    """What a rank has done so far: small enough to be sent to rank 0 every second."""

    total: int = 0
    settled: int = 0
    spared: int = 0  # of the settled ones: nothing was learned of them, and no try counted
    images: int = 0
    errors: int = 0
    bytes: int = 0
    blocked: tuple[str, ...] = ()
    rests_s: float = 0.0  # until it may ask again: 0 at work, infinite with nothing left to do
    node: str = ""  # where it runs


@dataclass(frozen=True, slots=True)
class HowFar:
    """One rank's tally."""

    rank: int
    tally: Tally


@dataclass(frozen=True, slots=True)
class Stop:
    """End, for this reason."""

    reason: str
    is_in_time: bool = False  # there is time left for requests under way to end by themselves


class News:
    """One rank's ear and mouth; `stop_here` is called once, when this rank is to stop."""

    def __init__(self, world: World, tally: Tally, stop_here: Callable[[Stop], None]) -> None:
        self._world = world
        self._tally = tally
        self._stop_here = stop_here
        self._is_over = False
        self.stopped: str | None = None
        self.tallies: dict[int, Tally] = {}  # at rank 0: everybody's

    def stop_all(self, stop: Stop) -> None:
        """Have every rank stop, this one at once."""
        if self.stopped is None and not self._is_over:
            self._hear(stop)
            self._world.tell(0, stop)

    async def end(self) -> None:
        """With all ranks: nothing is told any more, and nothing is on its way."""
        self._is_over = True
        await self._world.fall_silent()

    def exchange(self) -> None:
        """Say how far this rank is, and take in what has arrived."""
        self._world.tell(0, HowFar(self._world.rank, self._tally))
        for message in self._world.heard():
            self._hear(message)

    def _hear(self, message: HowFar | Stop) -> None:
        if isinstance(message, HowFar):
            self.tallies[message.rank] = message.tally
        elif self.stopped is None:
            self.stopped = message.reason
            self._stop_here(message)
            self._pass_on(message)

    def _pass_on(self, stop: Stop) -> None:
        if self._world.rank == 0:
            for rank in range(1, self._world.size):
                self._world.tell(rank, stop)


def are_resting(tallies: Collection[Tally], ranks: int, patience_s: float) -> bool:
    """Whether nothing is left in the wave but groups that are blocked for longer than that.

    As long as one rank has work, the others wait: a block may end before that does.
    """
    rests_s = [tally.rests_s for tally in tallies]
    is_any_left = any(seconds < math.inf for seconds in rests_s)
    return len(rests_s) == ranks and is_any_left and min(rests_s) > patience_s


def progress_of(
    wave: int | None, tallies: Collection[Tally], ranks: int, started: float
) -> Progress:
    """Everybody's tallies as one progress; the time left as if it went on as so far."""
    now = time.time()
    done, total = sum(t.settled for t in tallies), sum(t.total for t in tallies)
    images, passed_s = sum(t.images for t in tallies), max(now - started, 0.001)
    return Progress(
        stage="profile" if wave is None else "download",
        wave=wave,
        done=done,
        total=total,
        images=images,
        errors=sum(t.errors for t in tallies),
        images_per_second=images / passed_s,
        bytes=sum(t.bytes for t in tallies),
        predicted_left_s=max(0, total - done) * passed_s / done if done else None,
        ranks=ranks,
        started=started,
        updated=now,
        blocked=tuple(group for t in tallies for group in t.blocked),
    )
