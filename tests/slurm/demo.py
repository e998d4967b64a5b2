"""The demo of `make run`, with folders, ports and servers of its own."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from distributed_downloader.fleet.demo import demo_csv, demo_plan
from distributed_downloader.fleet.running import running_fleet
from tests.slurm.sites import TIMEOUT_S
from tests.workflow.conftest import CHECKOUT, Workflow


@contextmanager
def demo_config(folder: Path, changes: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Its config, for a workflow in this folder, as long as its servers run."""
    folder.mkdir(exist_ok=True)
    with running_fleet(demo_plan(port=0)) as fleet:
        urls = folder / "urls.csv"
        urls.write_text(demo_csv(replace(fleet.plan, port=fleet.port)), encoding="utf-8")
        config = yaml.safe_load((CHECKOUT / "config" / "demo.yaml").read_text(encoding="utf-8"))
        paths = {"path_to_input": str(urls), "path_to_output": str(folder / "out")}
        yield {**config, **paths, **(changes or {})}


def seconds_of(workflow: Workflow) -> float:
    """How long it takes from nothing to its report."""
    began = time.monotonic()
    process = workflow.start()
    try:
        said, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 0, said
    return time.monotonic() - began
