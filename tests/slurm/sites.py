"""Runs on a cluster: the command of a user, and what became of it."""

import subprocess
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field

import polars as pl
import psutil
import yaml

from distributed_downloader.fleet.running import Fleet
from distributed_downloader.storage.lock_files import LockFiles
from tests.slurm.lab import Cluster, Job
from tests.workflow.conftest import Workflow

TIMEOUT_S = 600
LOOK_S = 1  # a cluster of our own bears it, a real one must not
LAUNCHER = "srun --mpi=pmi2 --kill-on-bad-exit=1"


@dataclass
class SlurmWorkflow(Workflow):
    """The command of a user on a login node: literally `--profile slurm`."""

    runtime_min: int = 0  # of a wave; 0 = as the profile says
    launcher: str = LAUNCHER
    look_s: int | None = LOOK_S  # between looks at the queue; None = as the profile says
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])  # its jobs' begin with it
    started: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def command(self, *words: str) -> list[str]:
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump(self.config))
        snakemake = [sys.executable, "-m", "snakemake", "--profile", "slurm"]
        snakemake += ["--latency-wait", "10"]
        if self.look_s is not None:
            snakemake += ["--seconds-between-status-checks", str(self.look_s)]
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

    def writer(self) -> tuple[str, int]:
        """The job that has the writer lock, and how often it was started again."""
        seen = LockFiles().read(self.workflow.paths.writer_lock)
        holder = seen.holder if seen else None
        return (holder.slurm_job, holder.slurm_restarts) if holder else ("", 0)

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
