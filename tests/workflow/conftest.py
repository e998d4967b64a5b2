"""The whole workflow, as a user runs it: a process, a config file, an output folder."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from distributed_downloader.fleet.plan import HostPlan
from distributed_downloader.fleet.running import Fleet
from distributed_downloader.paths import OutputPaths
from tests.workflow.drill import FLUSH_S, Drill
from tests.workflow.stages import Stages

CHECKOUT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 150

QUICK = {
    "downloader_parameters": {"default_rate_limit": 50, "workers_per_node": 2, "batch_size": 8},
    "politeness": {
        "allow_private_addresses": True,
        "backoff": {"first_s": 1, "max_s": 5},
        "wait_s": 30,
    },
    "profile": {"samples": 1},
    "timeouts": {"connect_s": 2, "total_s": 5},
    "flush": {"seconds": 1},
}


def run_snakemake(
    *words: str, cwd: Path = CHECKOUT, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run Snakemake with these words, whatever comes of it; all it says is its `stdout`."""
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=cwd,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@dataclass
class Workflow:
    """One output folder and the command that fills it."""

    folder: Path
    config: dict[str, Any]
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> OutputPaths:
        return OutputPaths.of(self.folder / "out", self.config.get("output_structure", {}))

    def command(self, *words: str) -> list[str]:
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump(self.config))
        snakemake = [sys.executable, "-m", "snakemake", "--profile", "profiles/local"]
        return [*snakemake, *words, "--configfile", str(config)]

    def start(self, *words: str, **variables: str) -> "subprocess.Popen[str]":
        """Start the command in a session of its own, so that a test can signal all of it."""
        return subprocess.Popen(
            self.command(*words),
            cwd=CHECKOUT,
            env={**os.environ, **self.variables, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end, whatever that is."""
        process = self.start(*words, **variables)
        try:
            output, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def finish(self, *words: str, **variables: str) -> str:
        """Run the command, which must end well; its output."""
        done = self.run(*words, **variables)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def states(self) -> dict[str, int]:
        """Rows in each state, from the ledger."""
        ledger = pl.read_parquet(self.paths.ledger)
        return dict(ledger.group_by("state").len().sort("state").iter_rows())

    def successes(self) -> pl.DataFrame:
        """The rows that have an image."""
        files = sorted(self.paths.images.glob("*/*/successes.parquet"))
        return pl.concat([pl.read_parquet(file) for file in files])

    def errors(self) -> pl.DataFrame:
        """The rows that have none."""
        files = sorted(self.paths.images.glob("*/*/errors.parquet"))
        return pl.concat([pl.read_parquet(file) for file in files])


NewWorkflow = Callable[..., Workflow]


@pytest.fixture(scope="session")
def stages() -> Stages:
    """Single stages, played in processes that may die."""
    return Stages()


@pytest.fixture
def new_workflow(tmp_path: Path) -> Iterator[NewWorkflow]:
    """A workflow over these URLs of a fleet; keyword arguments are sections of the config."""

    def new(fleet: Fleet, urls: list[str], **sections: Any) -> Workflow:
        table = tmp_path / "urls.txt"
        table.write_text("\n".join(urls) + "\n")
        config = {
            "path_to_input": str(table),
            "path_to_output": str(tmp_path / "out"),
            "hosts": dict(fleet.hosts),
        }
        for name, section in QUICK.items():
            config[name] = {**section, **sections.pop(name, {})}
        return Workflow(tmp_path, {**config, **sections})

    yield new


@pytest.fixture
def new_drill(start_fleet: Any, new_workflow: NewWorkflow) -> Iterator[Callable[..., Drill]]:
    """A drill over a fleet of these hosts, partitioned and profiled already.

    Every process of its runs must be gone when the test ends.
    """
    drills = []

    def new(*hosts: HostPlan, rate: float = 10.0, **sections: Any) -> Drill:
        fleet = start_fleet(*hosts)
        given = {
            "downloader_parameters": {"default_rate_limit": rate, "batch_size": 30},
            "profile": {"samples": 0},
            "flush": {"seconds": FLUSH_S},
        }
        workflow = new_workflow(fleet, fleet.urls(), **{**given, **sections})
        drills.append(Drill(workflow, fleet, rate))
        assert Stages().play(workflow.config, "partition", "profile") == 0
        return drills[-1]

    yield new
    left = [process for drill in drills for run in drill.runs for process in run.processes()]
    for process in left:
        process.kill()
    for drill in drills:
        for run in drill.runs:
            run.close()
    assert not left, "processes were left behind"
