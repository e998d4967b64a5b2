"""What rate learning brings: servers with limits of their own that nobody told us.

    PYTHONPATH=scripts:. python tests/benchmarks/simulate_rates.py [seeds] [minutes]

Real paces (courtesy.GroupPace) against leaky buckets as nginx's limit_req keeps them, in virtual
time: the figures are exact and the same on every machine, for a given seed.
"""

import asyncio
import itertools
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from distributed_downloader.courtesy.answers import Answered
from distributed_downloader.courtesy.budgets import Backoff, Budget
from distributed_downloader.courtesy.group_pace import GroupPace
from distributed_downloader.records import ErrorClass
from tests import virtual_time


@dataclass(frozen=True)
class Heard:
    """An answer of a simulated server."""

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_s: float = 0.0
    nbytes: int = 0
    error_class: ErrorClass | None = None


@dataclass
class LeakyServer:
    """`limit_req rate=<rate>r/s burst=<burst> nodelay`: refuses what would overflow the bucket."""

    rate: float
    burst: float
    level: float = 0.0
    at: float = 0.0
    log: list[tuple[float, bool]] = field(default_factory=list)  # (time, refused)

    def ask(self, now: float) -> int:
        self.level = max(0.0, self.level - (now - self.at) * self.rate)
        self.at = now
        refused = self.level > self.burst
        if not refused:
            self.level += 1.0
        self.log.append((now, refused))
        return 429 if refused else 200


@dataclass(frozen=True)
class Network:
    """How long an answer takes, and how late the event loop is."""

    latency_s: float = 0.05
    spread_s: float = 0.05
    late_s: float = 0.005


@dataclass(frozen=True)
class Figures:
    """What the server's own log says."""

    seconds: float  # from the first request to the last image
    refused: float  # share of all requests
    refused_later: float  # share of those after the first minute
    goodput_later: float  # share of what the server allows, after the first minute
    most_in_1s: int


async def work(
    pace: GroupPace, server: LeakyServer, images: int, network: Network, chance: random.Random
) -> None:
    """Workers as a rank has them, until all images are here."""
    left = itertools.count(images, -1)
    todo = images

    async def worker() -> None:
        nonlocal todo
        while todo > 0:
            todo -= 1
            await pace.turn()
            await asyncio.sleep(chance.random() * network.late_s)
            status = server.ask(virtual_time.now())
            latency_s = network.latency_s + chance.random() * network.spread_s
            await asyncio.sleep(latency_s)
            if status == 429:
                todo += 1
            else:
                next(left)
            answer: Answered = Heard(status, latency_s=latency_s, nbytes=50_000)
            pace.heard(answer)

    await asyncio.gather(*(worker() for _ in range(pace.connections)))


def simulate(
    server: LeakyServer, images: int, budget: Budget, seed: int = 0, network: Network | None = None
) -> Figures:
    """One group, from its first request to its last image."""
    chance = random.Random(seed)

    async def main() -> None:
        clock = virtual_time.now
        pace = GroupPace(budget, now=clock, wall=lambda: 1e9 + clock(), chance=chance.random)
        await work(pace, server, images, network or Network(), chance)

    virtual_time.run(main())
    return figures(server)


def figures(server: LeakyServer, minute: float = 60.0) -> Figures:
    """From the server's log."""
    times = [time for time, _ in server.log]
    later = [refused for time, refused in server.log if time >= minute]
    last = times[-1]
    served = later.count(False)
    return Figures(
        seconds=last,
        refused=sum(refused for _, refused in server.log) / len(server.log),
        refused_later=later.count(True) / max(1, len(later)),
        goodput_later=served / (server.rate * (last - minute)) if last > minute else 1.0,
        most_in_1s=max(
            sum(1 for time in times[index : index + 80] if time - start < 1.0)
            for index, start in enumerate(times)
        ),
    )


def hidden_limits(seed: int, first_s: float = 10.0, minutes: float = 10.0) -> list[Figures]:
    """20 servers that take 7 to 20 a second with small buckets; the config allows 50."""
    found = []
    for index in range(20):
        rate = 7 + 13 * index / 19
        budget = Budget("g", 50.0, backoff=Backoff(first_s=first_s))
        server = LeakyServer(rate, burst=(0, 1, 3, 5, 10)[index % 5])
        found.append(simulate(server, int(rate * 60 * minutes), budget, seed * 100 + index))
    return found


def nine_hundred(
    seed: int, limit: float = 50.0, bursts: tuple[int, ...] = (3,) * 8
) -> list[Figures]:
    """8 servers x 900 images that allow 10/s with burst 3, first_s 2."""
    budget = Budget("g", limit, backoff=Backoff(first_s=2.0))
    return [
        simulate(LeakyServer(10.0, burst), 900, budget, seed * 100 + index)
        for index, burst in enumerate(bursts)
    ]


def _print(name: str, found: list[Figures], bound_s: float | None = None) -> None:
    slowest = max(figure.seconds for figure in found)
    over = "" if bound_s is None else f" = {slowest / bound_s:.3f} of the bound"
    print(
        f"{name}: {slowest:.0f} s{over}; refused {max(f.refused for f in found):.2%} at worst, "
        f"after the first minute {max(f.refused_later for f in found):.2%} "
        f"(mean {sum(f.refused_later for f in found) / len(found):.2%}); goodput after it "
        f"{min(f.goodput_later for f in found):.1%} at worst, "
        f"mean {sum(f.goodput_later for f in found) / len(found):.1%}"
    )


def main() -> None:
    """Print the figures."""
    seeds, minutes = (float(word) for word in (*sys.argv[1:], *("2", "10")[len(sys.argv) - 1 :]))
    for seed in range(int(seeds)):
        _print(f"hidden limits, first_s 10, seed {seed}", hidden_limits(seed, 10.0, minutes))
        _print(f"hidden limits, first_s 2, seed {seed}", hidden_limits(seed, 2.0, minutes))
        _print(f"8 x 900, seed {seed}", nine_hundred(seed), 90.0)
        _print(f"8 x 900, limit 20, seed {seed}", nine_hundred(seed, 20.0), 90.0)


if __name__ == "__main__":
    main()
