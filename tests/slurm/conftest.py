"""A real Slurm on this machine, for as long as the tests last, and sites on it.

Tests share the cluster and go at once, in worker processes: what they wait for costs no CPU. A test
that breaks the cluster has it alone.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distributed_downloader.fleet.plan import HostPlan
from tests.slurm.lab import FOLDER, PORT_BASE, Cluster, new_cluster, why_not
from tests.slurm.sites import Site, SlurmWorkflow
from tests.workflow.conftest import new_workflow  # noqa: F401  a fixture


def is_worker(session: pytest.Session) -> bool:
    """Whether this process was started by another that has the cluster up."""
    return hasattr(session.config, "workerinput")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the cluster; without one, or without root, nothing is tested, and that is said."""
    if is_worker(session) or session.config.option.collectonly:
        return
    if reason := why_not():
        pytest.exit(reason, 1)
    cluster = new_cluster()
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


@pytest.fixture
def programs(tmp_path):
    """A PATH with all programs of this machine, but these as scripts of ours; None: not there."""

    def having(**ours: str | None) -> str:
        folder = tmp_path / "programs"
        folder.mkdir()
        for path in os.environ["PATH"].split(os.pathsep):
            for program in Path(path).glob("*"):
                link = folder / program.name
                if program.name not in ours and not link.is_symlink():
                    link.symlink_to(program)
        for name, does in ours.items():
            if does is not None:
                (folder / name).write_text(f"#!/bin/sh\n{does}\n")
                (folder / name).chmod(0o755)
        return str(folder)

    return having


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
