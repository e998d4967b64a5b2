"""A real Slurm of four nodes on this machine, for as long as the tests last; see `cluster`."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
import yaml

from distributed_downloader.fleet.plan import HostPlan
from distributed_downloader.fleet.running import Fleet
from tests.workflow.conftest import Workflow, new_workflow  # noqa: F401  a fixture
from tests.workflow.drill import wait_for

SCRIPT = Path(__file__).with_name("cluster")
IMPATIENT = Path(__file__).with_name("impatient.py")
PROGRAMS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch", "srun", "sacct")
START_S = 120
TIMEOUT_S = 420
LAUNCHER = "srun --mpi=pmi2 --kill-on-bad-exit=1"
# Real clusters are asked every 10 s and slower: profiles/slurm. A test has no time for that.
IN_A_HURRY = ("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "10")


@dataclass(frozen=True)
class Job:
    """What Slurm knows of a job that is not long over."""

    id: str
    rule: str
    nodes: int
    cpus: int
    state: str
    first_node: str

    @property
    def is_wave(self) -> bool:
        return self.rule.startswith("rule_download_images")


class Cluster:
    """The cluster as its administrator sees it."""

    def __init__(self, folder: Path, port_base: int) -> None:
        self.folder = folder
        self.variables = {
            "SLURM_CLUSTER_DIR": str(folder),
            "PORTBASE": str(port_base),
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

    def jobs(self) -> list[Job]:
        """All jobs of the last five minutes, oldest first."""
        text = self.ask("squeue", "--states=all", "--noheader", "--format=%i|%k|%D|%C|%T|%B")
        rows = [line.split("|") for line in text.splitlines()]
        jobs = [Job(row[0], row[1], int(row[2]), int(row[3]), row[4], row[5]) for row in rows]
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
                for offset in (1, 2, 3, 11, 12, 13, 14):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        return base
    raise AssertionError("no free ports for a cluster")


@pytest.fixture(scope="session")
def whole_cluster() -> Iterator[Cluster]:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    assert os.geteuid() == 0, "Slurm's daemons want root here: run these tests as root."
    assert not missing, f"{', '.join(missing)} not found: `make test-slurm` installs what it needs."
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: a socket lies in it
    cluster = Cluster(folder, free_port_base())
    try:
        cluster.do("up")
        yield cluster
    finally:
        cluster.do("purge")


@pytest.fixture
def cluster(whole_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with all its nodes; no job of the test may outlive it."""
    whole_cluster.do("up")
    before = {job.id for job in whole_cluster.jobs()}
    yield OfOneTest(whole_cluster, before)
    whole_cluster.ask("scancel", "--full", "--user=root")
    wait_for("an empty queue", lambda: not whole_cluster.ask("squeue", "--noheader"))


class OfOneTest(Cluster):
    """The same cluster; jobs of earlier tests are not seen."""

    def __init__(self, cluster: Cluster, before: set[str]) -> None:
        self.folder, self.variables, self._before = cluster.folder, cluster.variables, before

    def jobs(self) -> list[Job]:
        return [job for job in super().jobs() if job.id not in self._before]

    def waves(self) -> list[Job]:
        return [job for job in self.jobs() if job.is_wave]


@dataclass
class SlurmWorkflow(Workflow):
    """The command of a user on a login node: literally `--profile slurm`."""

    runtime_min: int = 0  # of a wave; 0 = as the profile says
    launcher: str = LAUNCHER
    started: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def command(self, *words: str) -> list[str]:
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump(self.config))
        snakemake = [sys.executable, str(IMPATIENT), "--profile", "slurm", *IN_A_HURRY]
        if self.runtime_min or self.launcher != LAUNCHER:  # replaces all that the profile sets
            wave = (f"mpi={self.launcher}", f"runtime={self.runtime_min or 10}")
            snakemake += ["--set-resources", *(f"download_images:{one}" for one in wave)]
        snakemake += ["--slurm-logdir", str(self.folder / "slurm-logs")]
        return [*snakemake, *words, "--configfile", str(config)]

    def start(self, *words: str, **variables: str) -> "subprocess.Popen[str]":
        self.started.append(super().start(*words, **variables))
        return self.started[-1]

    def run(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return self.end_of(self.start(*words, **variables))

    def end_of(self, process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
        """Wait for the end of a run that was started."""
        output, _ = process.communicate(timeout=TIMEOUT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def kill(self) -> None:
        """End what a failed test left at work."""
        for process in self.started:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


@dataclass
class Site:
    """A cluster, a fleet, and a workflow between them."""

    cluster: OfOneTest
    fleet: Fleet
    workflow: SlurmWorkflow

    def images_asked(self) -> pl.DataFrame:
        """Requests for images so far, as the servers saw them."""
        return self.fleet.accesses().filter(pl.col("path") != "/robots.txt")

    def wait_for_requests(self, number: int, process: "subprocess.Popen[str]") -> Job:
        """Wait until a wave has asked so much; its job."""
        end = time.monotonic() + TIMEOUT_S
        while len(self.images_asked()) < number:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, f"{number} requests did not happen"
            time.sleep(0.2)
        return self.cluster.waves()[-1]

    def ranks(self) -> list[psutil.Process]:
        """The ranks at work for this workflow."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = " ".join(process.cmdline())
                is_rank = "-m mpi4py" in words and process.name().startswith("python")
                if is_rank and str(self.workflow.folder) in words:
                    found.append(process)
        return found

    def job_logs(self) -> list[Path]:
        """What jobs that failed have said."""
        return sorted((self.workflow.folder / "slurm-logs").rglob("*.log"))

    def asked_again(self) -> int:
        """How many requests were for an image that had been asked for before."""
        asked = self.images_asked()
        return len(asked) - len(asked.unique(["host", "path"]))


NewSite = Callable[..., Site]


@pytest.fixture
def new_site(cluster: OfOneTest, start_fleet: Any, new_workflow: Any) -> Iterator[NewSite]:  # noqa: F811
    workflows = []

    def new(*hosts: HostPlan, rate: float, nodes: int, **sections: Any) -> Site:
        fleet = start_fleet(*hosts)
        size = {"default_rate_limit": rate, "max_nodes": nodes, "workers_per_node": 1}
        given = {"downloader_parameters": {**size, "batch_size": 100}, "profile": {"samples": 0}}
        made = new_workflow(fleet, fleet.urls(), **{**given, **sections})
        workflows.append(SlurmWorkflow(made.folder, made.config, cluster.variables))
        return Site(cluster, fleet, workflows[-1])

    yield new
    for workflow in workflows:
        workflow.kill()
