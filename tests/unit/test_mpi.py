"""Ranks of a real MPI job: what they tell each other, and how they leave."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
BEGIN = f"""
import asyncio, sys, threading
sys.path.insert(0, {str(SCRIPTS)!r})
from distributed_downloader.mpi import leave_in_time, open_world
world = open_world(int(sys.argv[1]))
"""


def run_ranks(tmp_path, ranks, body):
    script = tmp_path / "ranks.py"
    script.write_text(BEGIN + body)
    mpiexec = Path(sys.executable).parent / "mpiexec"
    words = [str(mpiexec), "-n", str(ranks), sys.executable, "-m", "mpi4py", str(script)]
    return subprocess.run(
        [*words, str(ranks)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("size", [10, 100_000])  # what goes at once, and what is asked for first
def test_nothing_is_on_its_way_when_ranks_leave_together(tmp_path, size):
    body = f"""
for _ in range(200 if {size} < 1000 else 5):
    for rank in range(world.size):
        world.tell(rank, "x" * {size})
asyncio.run(world.fall_silent())
assert not list(world.heard())
leave_in_time()
"""
    done = run_ranks(tmp_path, 3, body)
    assert (done.returncode, done.stderr) == (0, "")  # MPI complains of what was never received


def test_a_rank_that_cannot_leave_is_ended(tmp_path):
    body = """
if world.rank == 0:
    threading.Event().wait(300)  # MPI_Finalize of the other waits for this one
leave_in_time(1)
"""
    assert run_ranks(tmp_path, 2, body).returncode != 0
