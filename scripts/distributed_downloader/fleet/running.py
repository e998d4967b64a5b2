"""A fleet as a process of its own, for as long as a `with` block lasts."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from distributed_downloader.errors import ConfigError
from distributed_downloader.fleet.judge import read_log
from distributed_downloader.fleet.plan import FleetPlan, HostPlan

LIBRARY_PARENT = Path(__file__).resolve().parents[2]
GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet that listens: where, and what it has seen."""

    plan: FleetPlan
    port: int
    pid: int
    hosts: Mapping[str, str]  # name -> address, as the setting `hosts`
    log: Path

    def url(self, host: str, path: str) -> str:
        """The URL of a path at a host."""
        return f"http://{host}:{self.port}{path}"

    def urls(self, *hosts: str) -> list[str]:
        """The URLs of all images of these hosts, or of all; those that play tricks too."""
        return [
            self.url(host.name, path)
            for host in self.plan.hosts
            if not hosts or host.name in hosts
            for path in image_paths(host)
        ]

    def accesses(self) -> pl.DataFrame:
        """All requests so far (judge.ACCESS)."""
        return read_log(self.log)


def image_paths(host: HostPlan) -> list[str]:
    """The paths of a host's images."""
    return [f"{host.folder}/{host.photo_name(index)}" for index in range(host.images)]


@contextmanager
def running_fleet(plan: FleetPlan, log: Path | None = None) -> Iterator[Fleet]:
    """Start a fleet, wait until it listens, end it with the block.

    It lives in its own session (Ctrl-C does not reach it) and ends by itself when this process is
    gone, since its standard input closes then. Raises ConfigError with its sentence when it cannot
    begin. Without `log`, the access log goes with the block.
    """
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        plan_file = Path(folder, "plan.json")
        plan_file.write_text(plan.to_json(), encoding="utf-8")
        log = log or Path(folder, "access.jsonl")
        complaints = Path(folder, "stderr.txt")
        with _process(plan_file, log, complaints) as process:
            ready = process.stdout.readline() if process.stdout else ""
            if not ready:
                process.wait()
                said = complaints.read_text(encoding="utf-8").strip()
                raise ConfigError(said or f"The fleet ended at once ({process.returncode}).")
            facts = json.loads(ready)
            yield Fleet(plan, facts["port"], facts["pid"], facts["hosts"], log)


@contextmanager
def _process(plan: Path, log: Path, complaints: Path) -> Iterator[subprocess.Popen[str]]:
    words = ["--plan", str(plan), "--log", str(log), "--until-stdin-closes"]
    library = os.pathsep.join([str(LIBRARY_PARENT), os.environ.get("PYTHONPATH", "")])
    with complaints.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed_downloader.fleet", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "PYTHONPATH": library},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Ask it to end, then make it; by its own handle only."""
    process.terminate()
    try:
        process.communicate(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
