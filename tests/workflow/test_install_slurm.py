"""`make test-slurm` where it cannot work: it says why, and never passes without a test."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import CHECKOUT

INSTALL = CHECKOUT / "tests" / "slurm" / "install"
NEEDED = ("id", "mktemp", "tail", "rm")  # by the script itself
SLURM = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "squeue", "sacct")


class Machine:
    """One on which only these programs are found, each a script of ours or a real one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in NEEDED:
            (folder / name).symlink_to(shutil.which(name))
        self.has("id", "echo 0")

    def has(self, name: str, does: str = "true") -> None:
        program = self.folder / name
        program.unlink(missing_ok=True)
        program.write_text(f"#!/bin/sh\n{does}\n")
        program.chmod(0o755)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        variables = {**os.environ, "PATH": str(self.folder), "TMPDIR": str(self.folder)}
        return subprocess.run(
            command,
            cwd=CHECKOUT,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def install(self) -> "subprocess.CompletedProcess[str]":
        """The script; what it would find in the system's own folders is none of this machine."""
        script = self.folder / "install"
        script.write_text(INSTALL.read_text().replace("PATH=$PATH:/usr/sbin:/sbin\n", ""))
        return self.run("/bin/sh", str(script))


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_who_is_not_root_is_told_so_even_where_slurm_is_there(machine):
    machine.has("id", "echo 1000")
    for name in (*SLURM, *CLIENTS):
        machine.has(name)
    done = machine.install()
    assert done.returncode == 1
    assert done.stdout.endswith("run it as root.\n")


def test_a_machine_without_apt_is_told_what_is_missing(machine):
    for name in SLURM:
        machine.has(name)
    done = machine.install()
    assert done.returncode == 1
    assert "not found: sbatch srun squeue sacct. Without apt-get" in done.stdout


def test_an_apt_that_cannot_install_shows_its_words_and_where_the_rest_is(machine):
    machine.has("apt-get", 'echo "E: no such package" >&2; exit 100')
    done = machine.install()
    assert done.returncode == 1
    assert "E: no such package\n" in done.stdout
    log = Path(done.stdout.split()[-1].rstrip("."))
    assert "no such package" in log.read_text()


def test_an_apt_that_brings_less_than_is_needed_is_not_believed(machine):
    machine.has("apt-get")
    done = machine.install()
    assert done.returncode == 1
    assert "still not found: munged" in done.stdout


def test_nothing_is_installed_where_all_is_there(machine):
    for name in (*SLURM, *CLIENTS):
        machine.has(name)
    machine.has("apt-get", "exit 100")
    done = machine.install()
    assert (done.returncode, done.stdout) == (0, "")


def test_without_slurm_the_tests_end_with_an_error_and_a_sentence(machine):
    done = machine.run(sys.executable, "-m", "pytest", "tests/slurm", "-n", "2")
    assert done.returncode == 1
    why = "Slurm's daemons want root here" if os.geteuid() else "No munged, mariadbd, slurmdbd"
    assert why in done.stdout
    assert "passed" not in done.stdout
