"""Where a group's requests leave, once their connections stand: strictly by its rate and burst.

Connections take their time: those that stand together must not leave together. Who waits here is
told at once when the group is stopped.
"""

import asyncio
from collections.abc import Callable

from distributed_downloader.courtesy.limiter import Limiter

Clock = Callable[[], float]

EARLY_S = 0.001  # timers are so much late, and who leaves late holds up all after it
YIELDS = 200  # to other tasks, instead of a timer, in the last millisecond


class Door:
    """One after the other. `now` is the loop's clock, or one that goes with it."""

    def __init__(self, rate: float, burst: int, now: Clock) -> None:
        self._limiter = Limiter(rate, burst, now())
        self._now = now
        self._line = asyncio.Lock()
        self._changed = asyncio.Event()

    def set_rate(self, rate: float, burst: int) -> None:
        """As `Limiter.set_rate`, from now."""
        self._limiter.set_rate(rate, burst, self._now())

    def empty(self, until: float) -> None:
        """As `Limiter.empty`; who waits looks again whether the group is stopped."""
        self._limiter.empty(until)
        self._changed.set()

    async def leave(self, is_stopped: Callable[[], bool]) -> bool:
        """Wait until a request may go out, and count it; False: its group was stopped by now."""
        async with self._line:
            while not is_stopped():
                delay_s = self._limiter.delay_s(self._now())
                if delay_s <= 0:
                    self._limiter.take(self._now())
                    return True
                await self._rest(delay_s)
        return False

    async def _rest(self, delay_s: float) -> None:
        """To the tenth of a millisecond, if nothing else keeps the loop busy."""
        if delay_s > 2 * EARLY_S:
            return await doze(self._changed, delay_s - EARLY_S)
        until = self._now() + delay_s
        for _ in range(YIELDS):
            if self._now() >= until:
                return None
            await asyncio.sleep(0)
        return await doze(self._changed, until - self._now())


async def doze(changed: asyncio.Event, delay_s: float) -> None:
    """So long, or until somebody sets `changed`."""
    changed.clear()
    timer = asyncio.get_running_loop().call_later(delay_s, changed.set)
    try:
        await changed.wait()
    finally:
        timer.cancel()
