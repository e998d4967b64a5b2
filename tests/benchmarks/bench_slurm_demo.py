"""The demo under the slurm profile, on a real four-node Slurm of this machine, and locally.

`python tests/benchmarks/bench_slurm_demo.py`, as root, where `make test-slurm` has run once. The
same config with the same settings, first locally, then as jobs: with its tools, as `make run` does
it, and without. `--looks 1` has the queue looked at once a second, as on a cluster of one's own;
otherwise it is as the profile says.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from distributed_downloader.fleet.demo import demo_csv, demo_plan
from distributed_downloader.fleet.running import running_fleet
from tests.slurm.lab import Cluster, new_cluster, why_not

HOUSE = Path(__file__).resolve().parents[2]
LOCAL = ("--profile", "profiles/local")
SLURM = ("--profile", "slurm")


def main() -> int:
    args = parse()
    if reason := why_not():
        print(f"Not measured. {reason}")
        return 0
    looks = ("--seconds-between-status-checks", str(args.looks)) if args.looks else ()
    with running_cluster() as cluster:
        for changes in [{}, {"tools": []}]:
            local_s = seconds_of(LOCAL, changes, {})
            slurm_s = seconds_of((*SLURM, *looks), changes, cluster.variables)
            what = "without tools" if changes else "with its tools"
            print(
                f"demo {what}: {local_s:.0f} s locally, {slurm_s:.0f} s on Slurm, "
                f"{slurm_s / local_s:.2f} times",
                flush=True,
            )
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--looks", type=int, default=0, help="seconds between looks at the queue")
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


def seconds_of(
    words: Sequence[str], changes: Mapping[str, Any], variables: Mapping[str, str]
) -> float:
    """How long the demo takes with this profile, from nothing to its report."""
    with tempfile.TemporaryDirectory() as folder, running_fleet(demo_plan(port=0)) as fleet:
        config = yaml.safe_load((HOUSE / "config" / "demo.yaml").read_text(encoding="utf-8"))
        urls = Path(folder, "urls.csv")
        urls.write_text(demo_csv(replace(fleet.plan, port=fleet.port)), encoding="utf-8")
        config |= {"path_to_input": str(urls), "path_to_output": f"{folder}/dataset", **changes}
        file = Path(folder, "demo.yaml")
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", *words, "--configfile", str(file)]
        began = time.monotonic()
        subprocess.run(command, cwd=HOUSE, env={**os.environ, **variables}, check=True)
        return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
