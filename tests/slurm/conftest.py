"""A real Slurm on this machine, for as long as the tests last (see `cluster`), and runs on it.

Tests share the cluster and go at once, in worker processes: what they wait for costs no CPU. A test
that breaks the cluster has it alone.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
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

SCRIPT = Path(__file__).with_name("cluster")
IMPATIENT = Path(__file__).with_name("impatient.py")
PROGRAMS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch", "srun", "sacct")
FOLDER, PORT_BASE = "SLURM_CLUSTER_DIR", "PORTBASE"  # variables of `cluster`
START_S = 120
TIMEOUT_S = 400
LAUNCHER = "srun --mpi=pmi2 --kill-on-bad-exit=1"


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


def is_worker(session: pytest.Session) -> bool:
    """Whether this process was started by another that has the cluster up."""
    return hasattr(session.config, "workerinput")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the cluster; without one, or without root, nothing is tested, and that is said."""
    if is_worker(session) or session.config.option.collectonly:
        return
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if os.geteuid() != 0:
        pytest.exit("Slurm's daemons want root here: run these tests as root.", 1)
    if missing:
        pytest.exit(f"No {', '.join(missing)}: `make test-slurm` installs what it needs.", 1)
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: a socket lies in it
    cluster = Cluster(folder, free_port_base())
    os.environ.update(cluster.variables)
    session.config.add_cleanup(lambda: cluster.do("purge"))
    cluster.do("up")


@contextmanager
def sharing(cluster: Cluster, how: int) -> Iterator[Cluster]:
    """Use it beside others, or alone."""
    with (cluster.folder / "in-use").open("a") as file:
        fcntl.flock(file, how)
        yield cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """The cluster, beside other tests."""
    with sharing(Cluster(Path(os.environ[FOLDER]), int(os.environ[PORT_BASE])), fcntl.LOCK_SH) as c:
        yield c


@pytest.fixture
def cluster_alone() -> Iterator[Cluster]:
    """The cluster for a test that breaks something; whole again afterwards."""
    with sharing(Cluster(Path(os.environ[FOLDER]), int(os.environ[PORT_BASE])), fcntl.LOCK_EX) as c:
        yield c
        c.do("up")


@dataclass
class SlurmWorkflow(Workflow):
    """The command of a user on a login node: literally `--profile slurm`."""

    runtime_min: int = 0  # of a wave; 0 = as the profile says
    launcher: str = LAUNCHER
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])  # its jobs' begin with it
    started: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def command(self, *words: str) -> list[str]:
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump(self.config))
        snakemake = [sys.executable, str(IMPATIENT), "--profile", "slurm", "--latency-wait", "10"]
        if self.runtime_min or self.launcher != LAUNCHER:  # replaces all that the profile sets
            wave = (f"mpi={self.launcher}", f"runtime={self.runtime_min or 10}")
            snakemake += ["--set-resources", *(f"download_images:{one}" for one in wave)]
        snakemake += ["--slurm-logdir", str(self.folder / "slurm-logs")]
        snakemake += ["--slurm-jobname-prefix", self.name]
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

    def finish_of(self, process: "subprocess.Popen[str]") -> str:
        """The same, which must be a good one; what it said."""
        done = self.end_of(process)
        assert done.returncode == 0, done.stdout
        return done.stdout

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

    cluster: Cluster
    fleet: Fleet
    workflow: SlurmWorkflow

    def jobs(self) -> list[Job]:
        return self.cluster.jobs(self.workflow.name)

    def waves(self) -> list[Job]:
        return [job for job in self.jobs() if job.is_wave]

    def images_asked(self) -> pl.DataFrame:
        """Requests for images so far, as the servers saw them."""
        return self.fleet.accesses().filter(pl.col("path") != "/robots.txt")

    def wait_for_requests(self, number: int, process: "subprocess.Popen[str]") -> None:
        """Wait until the servers were asked for so many images."""
        end = time.monotonic() + TIMEOUT_S
        while len(self.images_asked()) < number:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, f"{number} requests did not happen"
            time.sleep(0.2)

    def wave_after(self, number: int, process: "subprocess.Popen[str]") -> Job:
        """The wave at work, once the servers were asked for so many images."""
        self.wait_for_requests(number, process)
        return self.waves()[-1]

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

    def asked_again(self) -> int:
        """How many requests were for an image that had been asked for before."""
        asked = self.images_asked()
        return len(asked) - len(asked.unique(["host", "path"]))

    def assert_all_is_there(self) -> None:
        """Every image is stored, once."""
        images = len(self.fleet.urls())
        assert self.workflow.states() == {"ok": images}
        assert self.workflow.successes()["uuid"].n_unique() == images


@contextmanager
def sites(cluster: Cluster, start_fleet: Any, new_workflow: Any) -> Iterator[Callable[..., Site]]:  # noqa: F811
    """Makes sites on this cluster; no process and no job of theirs outlives the block."""
    made: list[SlurmWorkflow] = []

    def new(*hosts: HostPlan, rate: float, nodes: int, **sections: Any) -> Site:
        fleet = start_fleet(*hosts)
        size = {"default_rate_limit": rate, "max_nodes": nodes, "workers_per_node": 1}
        given: Mapping[str, Any] = {
            "downloader_parameters": {**size, "batch_size": 100},
            "profile": {"samples": 0},
        }
        workflow = new_workflow(fleet, fleet.urls(), **{**given, **sections})
        made.append(SlurmWorkflow(workflow.folder, workflow.config, cluster.variables))
        return Site(cluster, fleet, made[-1])

    yield new
    for workflow in made:
        workflow.kill()
        for job in cluster.jobs(workflow.name):
            if job.state in {"PENDING", "RUNNING"}:
                cluster.ask("scancel", "--full", "--quiet", job.id)


@pytest.fixture
def new_site(cluster: Cluster, start_fleet: Any, new_workflow: Any) -> Iterator[Any]:  # noqa: F811
    with sites(cluster, start_fleet, new_workflow) as new:
        yield new


@pytest.fixture
def new_site_alone(cluster_alone: Cluster, start_fleet: Any, new_workflow: Any) -> Iterator[Any]:  # noqa: F811
    with sites(cluster_alone, start_fleet, new_workflow) as new:
        yield new
