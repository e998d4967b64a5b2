"""20 servers x 100 images that allow 10/s each (burst 5), by the whole workflow, on 1 and 4 ranks.

`python tests/benchmarks/bench_politeness.py [ranks ...] [--images 100]`. The servers' logs judge:

- arrived: images in the ledger, of all;
- refused: answers 429, of all image requests (no more than 1%);
- peak: most requests in any second at any server (no more than 10 + 5);
- needed burst: the smallest with which every window of any length at every server is kept;
- over the bound: first to last image request, over 100 images / 10 per second (at most 1.05).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from distributed_downloader.fleet.judge import burst_needed, peak_requests, times_by
from distributed_downloader.fleet.plan import FleetPlan, HostPlan
from distributed_downloader.fleet.running import Fleet, running_fleet

CHECKOUT = Path(__file__).resolve().parents[2]
SERVERS = 20
RATE = 10.0
BURST = 5.0


def fleet_plan(images: int) -> FleetPlan:
    """Small photos, as in FIELD's comparison: the pace is what is measured."""
    return FleetPlan(
        hosts=tuple(
            HostPlan(
                name=f"images.server{number}.test",
                address=f"127.44.0.{number + 1}",
                images=images,
                photos="small",
                rate=RATE,
                burst=BURST,
            )
            for number in range(SERVERS)
        )
    )


def config_of(fleet: Fleet, folder: Path, ranks: int) -> dict[str, object]:
    """The rate that the servers allow, no samples, everything else as it comes."""
    return {
        "path_to_input": str(folder / "urls.txt"),
        "path_to_output": str(folder / "dataset"),
        "downloader_parameters": {
            "header": "User-Agent: polite-image-downloader-benchmark (mailto:bench@example.org)",
            "default_rate_limit": RATE,
            "workers_per_node": ranks,
        },
        "politeness": {"allow_private_addresses": True},
        "profile": {"samples": 0},
        "hosts": dict(fleet.hosts),
    }


def run_workflow(fleet: Fleet, folder: Path, ranks: int) -> None:
    """The command that a user types; its words are shown only if it fails."""
    (folder / "urls.txt").write_text("".join(f"{url}\n" for url in fleet.urls()))
    config = folder / "config.json"
    config.write_text(json.dumps(config_of(fleet, folder, ranks)))
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local"]
    done = subprocess.run(
        [*command, "--configfile", str(config)],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nThe workflow ended with {done.returncode} ({ranks} ranks).")


def figures(log: pl.DataFrame, ledger: pl.DataFrame, each: int) -> dict[str, str]:
    """What is printed, by name; each server has so many images."""
    wanted, bound_s = SERVERS * each, each / RATE
    images = log.filter(pl.col("path") != "/robots.txt")
    refused = images.filter(pl.col("status") == 429).height / images.height
    spans = images.group_by("host").agg(pl.col("monotonic").max() - pl.col("monotonic").min())
    span = images["monotonic"].max() - images["monotonic"].min()
    burst = max(burst_needed(times, RATE) for times in times_by(log).values())
    return {
        "arrived": f"{ledger.filter(pl.col('state') == 'ok').height} of {wanted}",
        "requests per image": f"{images.height / wanted:.3f}",
        "refused": f"{refused:.2%}",
        "peak": f"{max(peak_requests(log).values())}/s ({RATE + BURST:g} allowed)",
        "needed burst": f"{burst:.2f} ({BURST + 1:g} allowed)",
        "first to last": f"{span:.2f} s, {span / bound_s:.3f} of the bound",
        "slowest server": f"{spans['monotonic'].max() / bound_s:.3f} of the bound",
    }


def main() -> None:
    """One block a number of ranks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ranks", nargs="*", type=int, default=[1, 4])
    parser.add_argument("--images", type=int, default=100)
    given = parser.parse_args()
    for ranks in given.ranks:
        with (
            tempfile.TemporaryDirectory(prefix="politeness-") as name,
            running_fleet(fleet_plan(given.images)) as fleet,
        ):
            folder = Path(name)
            run_workflow(fleet, folder, ranks)
            ledger = pl.read_parquet(folder / "dataset" / "ledger.parquet")
            found = figures(fleet.accesses(), ledger, given.images)
        print(f"{ranks} rank{'s' if ranks > 1 else ''}")
        for label, value in found.items():
            print(f"  {label:<19}{value}")


if __name__ == "__main__":
    main()
