"""A real Slurm on this machine, as its administrator sees it (see `cluster`)."""

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("cluster")
PROGRAMS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch", "srun", "sacct")
ACCOUNTING = ("sacct", "sacctmgr", "sshare")
FOLDER, PORT_BASE = "SLURM_CLUSTER_DIR", "PORTBASE"  # variables of `cluster`
START_S = 120


def why_not() -> str:
    """Why no cluster can be started here; "" if one can."""
    if os.geteuid() != 0:
        return "Slurm's daemons want root here: run this as root."
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"No {', '.join(missing)}: `make test-slurm` installs what it needs." if missing else ""


def new_cluster() -> "Cluster":
    """One that is not up yet, in a folder and on ports of its own."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: a socket lies in it
    return Cluster(folder, free_port_base())


@dataclass(frozen=True)
class Job:
    """What Slurm knows of a job that is not long over."""

    id: str
    rule: str
    nodes: int
    cpus: int
    state: str
    first_node: str
    restarts: int

    @property
    def is_wave(self) -> bool:
        return self.rule.startswith("rule_download_images")


class Cluster:
    """The cluster as its administrator sees it."""

    def __init__(self, folder: Path, port_base: int) -> None:
        self.folder = folder
        self.variables = {
            FOLDER: str(folder),
            PORT_BASE: str(port_base),
            "SLURM_CONF": str(folder / "etc" / "slurm.conf"),
        }

    def do(self, *words: str) -> None:
        """Run the script; what it says when it fails is the test's failure."""
        done = subprocess.run(
            [SCRIPT, *words],
            env={**os.environ, **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=START_S,
            check=False,
        )
        assert done.returncode == 0, f"cluster {' '.join(words)}: {done.stderr}"

    def ask(self, *words: str) -> str:
        """What one of Slurm's own commands prints."""
        variables = {**os.environ, **self.variables}
        return subprocess.run(
            words, env=variables, capture_output=True, text=True, timeout=30, check=True
        ).stdout

    def jobs(self, prefix: str) -> list[Job]:
        """All jobs of the last five minutes whose name begins like that, oldest first."""
        fields = "JobID,Name,Comment,NumNodes,NumCPUs,State,BatchHost,RestartCnt"
        columns = ",".join(f"{field}:|" for field in fields.split(","))
        text = self.ask("squeue", "--states=all", "--noheader", f"--Format={columns}")
        rows = [line.rstrip("|").split("|") for line in text.splitlines()]
        jobs = [
            Job(row[0], row[2], int(row[3]), int(row[4]), row[5], row[6], int(row[7]))
            for row in rows
            if row[1].startswith(prefix)
        ]
        return sorted(jobs, key=lambda job: int(job.id))

    def step(self, job: Job) -> tuple[int, int]:
        """Nodes and tasks of what srun started in the job, as the accounting has it."""
        text = self.ask(
            "sacct", "--noheader", "--parsable2", f"--jobs={job.id}.0", "--format=NNodes,NTasks"
        )
        nodes, tasks = text.split()[0].split("|")
        return int(nodes), int(tasks)


def free_port_base() -> int:
    """The first of the ports that a cluster takes, none of which is in use now."""
    for base in range(27000, 31000, 100):
        try:
            with ExitStack() as stack:
                for offset in (1, 2, 3, 11, 12, 13, 14, 15):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        return base
    raise AssertionError("no free ports for a cluster")
