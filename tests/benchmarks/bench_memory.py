"""Memory of a rank: while it fetches photos, and while it looks at and consolidates a batch.

`python tests/benchmarks/bench_memory.py [rows ...]`. Peaks of whole processes, in MB (600 wanted):

- a wave of one rank and two codec threads over 16 hosts with 4 connections each and photos of up to
  3,000 pixels, as its `progress.json` says (`peak_rank_mb`);
- a process with all that a rank loads, which takes in a batch of so many rows whose images came
  in parts of 2,000, every tenth row failed: first the look for what is left, then the shards and
  tables. The schema's bound of `batch_size`, the last number by default, comes from here.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from distributed_downloader.configuration.schema import schema
from distributed_downloader.fleet.plan import FleetPlan, HostPlan
from distributed_downloader.fleet.running import running_fleet
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import Encoded, ErrorClass, Failed, Fetched, Row
from distributed_downloader.storage.parts import PartNames, PartWriter

CHECKOUT = Path(__file__).resolve().parents[2]
HEADER = "User-Agent: polite-image-downloader-benchmark (mailto:bench@example.org)"
HOSTS, PHOTOS = 16, 12
PER_PART = 2_000
IMAGE = bytes(2_000)
BATCH = Batch("images.example.org", 0)
FAILED = Failed(ErrorClass.NOT_FOUND, 404, "the server says that there is none", retryable=False)

# What a rank does with a batch, in a process that has loaded what a rank loads.
CHILD = """
import sys
from distributed_downloader.running.begin import settings_for
from distributed_downloader.paths import Batch
from distributed_downloader.waves import nodes, wave, worklist
import json
settings = settings_for(json.loads(sys.argv[1]))
rows = int(sys.argv[2])
loaded = nodes.peak_mb()
left = worklist.rows_left(Batch("images.example.org", 0), settings)
looked = nodes.peak_mb()
del left
wave.settle_batches(settings, {Batch("images.example.org", 0): rows}, lambda: None)
print(loaded, looked, nodes.peak_mb())
"""


def config_of(root: Path, **changes: Any) -> dict[str, Any]:
    """A config of a few lines."""
    parameters = {"header": HEADER, **changes.pop("downloader_parameters", {})}
    return {
        "path_to_input": str(root / "urls.txt"),
        "path_to_output": str(root / "dataset"),
        "downloader_parameters": parameters,
        "politeness": {"allow_private_addresses": True},
        **changes,
    }


def fetching_mb() -> int:
    """The peak of a rank that fetches photos as fast as it can."""
    hosts = tuple(
        HostPlan(name=f"images.server{n}.test", address=f"127.45.0.{n + 1}", images=PHOTOS)
        for n in range(HOSTS)
    )
    with (
        tempfile.TemporaryDirectory(prefix="memory-") as name,
        running_fleet(FleetPlan(hosts=hosts)) as fleet,
    ):
        root = Path(name)
        (root / "urls.txt").write_text("".join(f"{url}\n" for url in fleet.urls()))
        speed = {"default_rate_limit": 100, "workers_per_node": 1, "cpu_per_worker": 2}
        config = config_of(root, downloader_parameters=speed, hosts=dict(fleet.hosts))
        (root / "config.json").write_text(json.dumps({**config, "profile": {"samples": 0}}))
        command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local"]
        subprocess.run(
            [*command, "--configfile", str(root / "config.json")],
            cwd=CHECKOUT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        progress = json.loads((root / "dataset" / "schedules" / "0" / "progress.json").read_text())
        return int(progress["peak_rank_mb"])


def fill(paths: OutputPaths, rows: int) -> None:
    """The batch's rows, and parts with what became of them."""
    md5 = hashlib.md5(IMAGE, usedforsecurity=False).hexdigest()
    encoded = Encoded(IMAGE, None, md5, md5, (900, 1200), (168, 224), None)
    writer = PartWriter(BATCH, PartNames(0, 0))
    for number in range(rows):
        uuid = f"{number:08}-0000-5000-8000-{number:012}"
        url = f"http://images.example.org/photos/{number}.jpg"
        meta = {"license": "CC BY 4.0", "source": "a museum", "title": f"No. {number}"}
        row = Row(uuid, str(number), url, BATCH.server_name, BATCH, meta=meta)
        if number % 10:
            writer.add_image(
                row, Fetched(b"", 200, url, "image/jpeg", f'"{number}"', None, 0.1), encoded
            )
        else:
            writer.add_error(row, FAILED)
        if len(writer) == PER_PART:
            writer.commit(paths.batch_images(BATCH), lambda: None)
    writer.commit(paths.batch_images(BATCH), lambda: None)
    urls = paths.batch_urls(BATCH)
    urls.parent.mkdir(parents=True)
    number = pl.int_range(rows, eager=True)
    uuids = pl.format("{}-0000-5000-8000-{}", *(number.cast(str).str.zfill(n) for n in (8, 12)))
    pl.select(uuid=uuids, server=pl.lit(BATCH.server_name)).write_parquet(urls)


def consolidating_mb(rows: int) -> list[int]:
    """Peaks: everything loaded, after the look, after consolidation."""
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        root = Path(name)
        (root / "urls.txt").touch()
        fill(OutputPaths.of(root / "dataset"), rows)
        done = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps(config_of(root)), str(rows)],
            cwd=CHECKOUT / "scripts",
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={"POLARS_MAX_THREADS": "1", "PATH": "/usr/bin:/bin"},
        )
        return [int(word) for word in done.stdout.split()]


def main() -> None:
    """A line for the wave, a line a batch."""
    parameters = schema()["properties"]["downloader_parameters"]["properties"]
    largest = parameters["batch_size"]["maximum"]
    print(f"fetching {HOSTS} x {PHOTOS} photos: {fetching_mb()} MB")
    for rows in [int(word) for word in sys.argv[1:]] or [10_000, 100_000, largest]:
        loaded, looked, done = consolidating_mb(rows)
        print(f"a batch of {rows:>9,} rows: {looked} MB to look, {done} MB to consolidate", end="")
        print(f" ({loaded} MB with nothing but the library)")


if __name__ == "__main__":
    main()
