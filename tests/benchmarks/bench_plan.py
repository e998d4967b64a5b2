"""What one wave of 20 nodes x 20 ranks does for a list of GBIF's size: 545 servers, 1/k^1.3.

Nothing is asked: the plan is the one that a run would make, of rates and rows alone.

python tests/benchmarks/bench_plan.py [rows] [requests per second and server] [hours of a wave]
"""

import sys
import time

import numpy as np

from distributed_downloader.waves.deadline import working_s
from distributed_downloader.waves.schedule import IMAGE_WORK_S, GroupWork, Machine, Plan, plan_wave

SERVERS = 545
SKEW = 1.3
TOTAL_S = 60.0  # timeouts.total_s, which a wave keeps back at its end


def groups(rows: int, rate: float) -> list[GroupWork]:
    """So many rows over the servers, the k-th with a share of 1/k^SKEW."""
    share = 1 / np.arange(1, SERVERS + 1) ** SKEW
    counts = np.maximum(1, (rows * share / share.sum()).astype(int))
    return [
        GroupWork(f"site{number}.test", int(count), rate, rate)
        for number, count in enumerate(counts)
    ]


def fetched(plan: Plan, seconds: float, cpus: int) -> int:
    """Rows that the plan's ranks get done in that time: politeness and CPU allow no more."""
    return sum(
        int(
            min(
                sum(min(one.rows, one.rate * seconds) for one in rank),
                seconds * cpus / IMAGE_WORK_S,
            )
        )
        for rank in plan.ranks
    )


def main(rows: int = 200_000_000, rate: float = 3.0, hours: float = 4.0) -> None:
    work = groups(rows, rate)
    machine = Machine(nodes=20, workers_per_node=20, cpu_per_worker=1)
    began = time.perf_counter()
    plan = plan_wave(work, machine)
    took_s = time.perf_counter() - began
    everybody = Machine(nodes=1, workers_per_node=len(work), cpu_per_worker=1)
    seconds = working_s(hours * 3600, TOTAL_S)
    print(f"{rows:,} images on {len(work)} servers at {rate:g}/s; planned in {took_s:.2f} s")
    print(f"asked for: {plan.nodes} nodes, {len(plan.ranks)} ranks (of 20 x 20)")
    days, least = plan.predicted_s / 86400, plan.lower_bound_s / 86400
    print(f"all of it: {days:,.0f} days, politeness alone {least:,.0f}")
    print(f"a wave of {hours:g} h: {fetched(plan, seconds, 1):,} images")
    at_most = fetched(plan_wave(work, everybody), seconds, 1)
    print(f"with a rank for each server: {at_most:,} images")
    for done in (0.5, 0.9):
        small = sorted(one.predicted_s for one in work)[int(done * len(work)) - 1]
        print(f"{done:.0%} of the servers are done after {small / 86400:,.1f} days")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*(kind(text) for kind, text in zip((int, float, float), given, strict=False)))
