"""A workflow that is started, watched and ended again and again, judged at its servers."""

import itertools
import json
import math
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import psutil

from distributed_downloader.fleet.judge import exceeds, times_by
from distributed_downloader.fleet.running import Fleet
from distributed_downloader.paths import OutputPaths
from distributed_downloader.storage.dataset import Dataset
from distributed_downloader.storage.parts import list_parts

FLUSH_S = 0.3
LOST_S = 2.5  # what a kill may cost: FLUSH_S, the look at the age of a buffer, a slow disk
DEADLINE_S = 60.0
MARK = "TEST_OF_KILLS"


def wait_for(what: str, happened: Callable[[], Any], process: Any = None) -> Any:
    """Its value, once it is true; the process must not end before."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := happened()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended before {what}: {process.communicate()[0]}")
        time.sleep(0.1)
    return value


@dataclass
class Run:
    """One start of the command, and all its processes."""

    process: "subprocess.Popen[str]"
    mark: str

    def processes(self) -> list[psutil.Process]:
        """Those that live, found by the mark in their environment."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            return is_alive and process.environ().get(MARK) == self.mark
        except psutil.Error:
            return False

    def named(self, word: str) -> list[psutil.Process]:
        """Those whose program, or script, is that; the workflow itself is not among them."""
        found = []
        for process in self.processes():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if process.pid != self.process.pid and any(w.endswith(word) for w in words[:4]):
                found.append(process)
        return found

    def ranks(self) -> list[psutil.Process]:
        """The ranks of the wave: their parent is the launcher's proxy."""
        found = []
        for process in self.named("download_images.py"):
            with suppress(psutil.NoSuchProcess):
                if "mpiexec" not in process.name():
                    found.append(process)
        return found

    def end(self) -> str:
        """Wait for the command's own end; what it said."""
        return self.process.communicate(timeout=DEADLINE_S)[0]

    def close(self) -> None:
        """End the command itself, if it is still there."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


class Kills:
    """When runs that follow each other were killed, and what it may have cost; monotonic seconds.

    A kill's doing is, too, what servers write down after it, until the next run begins: ranks may
    outlive it for a moment, and a busy server reads what the dead have sent later.
    """

    def __init__(self) -> None:
        self._known: list[tuple[float, float]] = []  # a kill, and the beginning of the next run

    def add(self, at: float) -> None:
        """A kill of the latest run."""
        self._known.append((at, math.inf))

    def begin(self, now: float) -> None:
        """Another run begins."""
        self._known = [(at, min(next_run, now)) for at, next_run in self._known]

    def cost(self, answered: float, again: float) -> float | None:
        """How long before a kill a row was answered that is asked again; None: no kill's doing."""
        costs = [
            max(0.0, at - answered)
            for at, next_run in self._known
            if answered <= next_run and at <= again
        ]
        return min(costs, default=None)


@dataclass
class Drill:
    """A workflow that is ended again and again."""

    workflow: Any
    fleet: Fleet
    rate: float
    runs: list[Run] = field(default_factory=list)
    kills: Kills = field(default_factory=Kills)

    @property
    def paths(self) -> OutputPaths:
        return self.workflow.paths

    def start(self) -> Run:
        self.kills.begin(time.monotonic())
        mark = uuid.uuid4().hex
        run = Run(self.workflow.start(**{MARK: mark}), mark)
        self.runs.append(run)
        return run

    def start_and_work(self, seconds: float) -> Run:
        """A run that has asked for so long and committed something."""
        asked_before, parts_before = self.fleet.log.stat().st_size, self.parts()
        run = self.start()

        def has_worked() -> bool:
            with self.fleet.log.open("rb") as log:
                log.seek(asked_before)
                lines = [line for line in log if line.endswith(b"\n")]
            times = [json.loads(line)["monotonic"] for line in lines[:1] + lines[-1:]]
            return bool(times) and times[-1] - times[0] >= seconds

        wait_for("some seconds of requests", has_worked, run.process)
        wait_for("a commit", lambda: self.parts() - parts_before, run.process)
        return run

    def finish(self) -> str:
        """A run that is left alone, and ends well; what it said."""
        run = self.start()
        said = run.end()
        assert run.process.returncode == 0, said
        return said

    def images(self) -> pl.DataFrame:
        """The requests for images so far."""
        return self.fleet.accesses().filter(pl.col("path") != "/robots.txt")

    def parts(self) -> set[str]:
        return {p.name for f in self.paths.images.glob("*/*") for p in list_parts(f)}

    def is_accounted_for(self) -> bool:
        return sum(self.workflow.states().values()) == len(self.fleet.urls())

    def assert_stored(self) -> None:
        """Every image is there, once."""
        assert self.workflow.states() == {"ok": len(self.fleet.urls())}
        with Dataset(self.paths.root) as dataset:
            assert dataset.table().collect()["uuid"].n_unique() == len(self.fleet.urls())

    def assert_whole(self) -> None:
        """Stored; nothing asked for twice but what a kill may cost; politely."""
        self.assert_stored()
        for url, times in self.asked_again():
            for answered, again in itertools.pairwise(times):
                cost = self.kills.cost(answered, again)
                assert cost is not None and cost <= LOST_S, (url, times, self.kills)
        for host, times in times_by(self.fleet.accesses()).items():
            assert not exceeds(times, self.rate, burst=2 + 0.1 * self.rate, windows=(1.0, 10.0)), (
                host
            )

    def asked_again(self) -> list[tuple[str, list[float]]]:
        by_url = self.images().group_by("host", "path").agg(pl.col("monotonic").sort())
        return [(h + p, times) for h, p, times in by_url.iter_rows() if len(times) > 1]
