"""Ranks of a real MPI job: how they start, what they tell each other, and how they leave."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distributed_downloader.mpi import CHOSEN_BY, needs_short_addresses

SCRIPTS = Path(__file__).parents[2] / "scripts"
BEGIN = f"""
import asyncio, sys, threading
sys.path.insert(0, {str(SCRIPTS)!r})
from distributed_downloader.mpi import leave_in_time, open_world
world = open_world(int(sys.argv[1]))
"""


LATE = f"""
import os, sys, threading
sys.path.insert(0, {str(SCRIPTS)!r})
from distributed_downloader import mpi
mpi.START_S = 2
if os.environ["PMI_RANK"] == "1":
    threading.Event().wait(300)
mpi.open_world(int(sys.argv[1]))
"""
LINE_OF_PMI2 = 1024  # bytes that Slurm's pmi2 reads of one


def run_ranks(tmp_path, ranks, body, *, begin=BEGIN, words=(), **variables):
    script = tmp_path / "ranks.py"
    script.write_text(begin + body)
    mpiexec = str(Path(sys.executable).parent / "mpiexec")
    command = [mpiexec, *words, "-n", str(ranks), sys.executable, "-m", "mpi4py", str(script)]
    return subprocess.run(
        [*command, str(ranks)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_ranks_that_wait_for_one_in_vain_are_ended(tmp_path):
    """MPI waits inside of its own start, where no Python runs."""
    done = run_ranks(tmp_path, 2, "", begin=LATE)
    assert done.returncode != 0
    assert "Timeout (0:00:02)!" in done.stderr
    assert "in open_world" in done.stderr


def said_to_pmi(tmp_path, **variables):
    """What ranks say to their launcher at the start, as if each were on a node of its own."""
    alone = {"MPIR_CVAR_NOLOCAL": "1", "SLURM_STEP_ID": "0", **variables}
    done = run_ranks(tmp_path, 3, "leave_in_time()", words=["-verbose"], **alone)
    assert done.returncode == 0
    return re.findall(r"cmd=put .*", done.stdout + done.stderr)


def test_under_slurm_an_address_fits_into_a_line(tmp_path):
    said = said_to_pmi(tmp_path)
    assert len(said) == 3  # one of each node
    assert max(map(len, said)) < LINE_OF_PMI2 / 4


def test_what_the_user_says_ranks_shall_talk_over_holds(tmp_path):
    said = said_to_pmi(tmp_path, MPIR_CVAR_CH4_NETMOD="ucx")
    assert any("segments=" in line for line in said)  # an address that takes several lines


@pytest.mark.parametrize(
    ("library", "variables", "needs"),
    [
        ("MPICH Version: 5.0.2\nMPICH Device:       ch4:ucx ofi\n", {"SLURM_STEP_ID": "0"}, True),
        ("MPICH Version: 5.0.2\nMPICH Device:       ch4:ucx ofi\n", {}, False),
        ("MPICH Version: 5.0.2\nMPICH Device:       ch4:ucx\n", {"SLURM_STEP_ID": "0"}, False),
        ("MPICH Version: 5.0.2\nMPICH Device:       ch4:ofi\n", {"SLURM_STEP_ID": "0"}, False),
        ("Open MPI v5.0.11, package: Open MPI", {"SLURM_STEP_ID": "0"}, False),
    ],
)
def test_only_an_mpich_that_has_a_choice_is_given_one(monkeypatch, library, variables, needs):
    for name in ("SLURM_STEP_ID", *CHOSEN_BY):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert needs_short_addresses(library) is needs


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
