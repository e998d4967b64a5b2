"""The demo under the slurm profile, on a real four-node Slurm of this machine, and locally.

`python tests/benchmarks/bench_slurm_demo.py`, as root, where `make test-slurm` has run once. The
same config, first locally, then as jobs: with its tools, as `make run` does it, and without. The
queue is looked at as often as the profile says, and, for a cluster of one's own, every second.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from tests.slurm.demo import demo_config, seconds_of
from tests.slurm.lab import Cluster, new_cluster, why_not
from tests.slurm.sites import LOOK_S, SlurmWorkflow
from tests.workflow.conftest import Workflow

CASES: dict[str, dict[str, Any]] = {"with its tools": {}, "without tools": {"tools": []}}


def main() -> int:
    args = parse()
    if reason := why_not():
        print(f"Not measured. {reason}")
        return 0
    began = time.monotonic()
    with running_cluster() as cluster:
        print(f"the cluster is up after {time.monotonic() - began:.0f} s", flush=True)
        for name in CASES:
            if args.only in {name, None}:
                measure(name, cluster)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*CASES, "nothing"], help="all when not given")
    return parser.parse_args()


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A cluster of its own, for as long as the block lasts."""
    cluster = new_cluster()
    try:
        cluster.do("up")
        yield cluster
    finally:
        cluster.do("purge")


def measure(name: str, cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "local")
        with demo_config(folder, CASES[name]) as config:
            local_s = seconds_of(Workflow(folder, config))
        for look_s, pace in ((LOOK_S, "looked at every second"), (None, "looks as in the profile")):
            folder = Path(parent, f"slurm-{look_s}")
            with demo_config(folder, CASES[name]) as config:
                workflow = SlurmWorkflow(folder, config, cluster.variables, look_s=look_s)
                slurm_s = seconds_of(workflow)
            print(
                f"demo {name}: {local_s:.0f} s locally, {slurm_s:.0f} s on Slurm ({pace}), "
                f"{slurm_s / local_s:.2f} times",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
