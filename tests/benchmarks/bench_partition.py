"""Rows partitioned per second, and the memory it takes: 545 servers, skewed as 1/k^1.3.

python tests/benchmarks/bench_partition.py [rows] [servers]

With 100,000 servers or more all are equally large, as in a list of the whole web.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).parents[2]
WEB_SCALE = 100_000  # servers
PIECE = 500_000  # rows made at once, so that making them takes little memory
RUN = """
import sys
from pathlib import Path
from tests.unit.conftest import make_settings
from distributed_downloader.lists.partition import partition_urls
folder = Path(sys.argv[1])
print(partition_urls(make_settings(folder, path_to_input=str(folder / "list.tsv"))))
"""


def write_list(path: Path, rows: int, servers: int) -> None:
    """A GBIF-like table without uuids, which is the dearer case; 1 URL in 1,000 needs mending."""
    share = 1 / np.arange(1, servers + 1) ** (1.3 if servers < WEB_SCALE else 0)
    random = np.random.default_rng(1)
    with path.open("wb") as file:
        for start in range(0, rows, PIECE):
            size = min(PIECE, rows - start)
            number, server = pl.col("number"), pl.col("server")
            url = pl.format("https://media{}.example{}.org/images/{}.jpeg", server, server, number)
            table = pl.DataFrame(
                {
                    "server": random.choice(servers, size=size, p=share / share.sum()),
                    "number": np.arange(start, start + size),
                }
            ).select(
                source_id=(4_000_000_000 + number).cast(pl.String),
                identifier=pl.when(number % 1000 == 0)
                .then(pl.format("HTTP://media{}.example{}.org/a b/{}.jpg", server, server, number))
                .otherwise(url),
                license=pl.lit("http://creativecommons.org/licenses/by-nc/4.0/"),
                source=pl.lit("https://www.example.org/observations"),
                title=pl.format("Observation {}", number),
            )
            table.write_csv(file, separator="\t", include_header=not start, quote_style="never")


def measure(folder: Path, rows: int) -> None:
    """Partition in a process of its own and print what it took."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}{os.pathsep}{ROOT}"}
    begun = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", RUN, str(folder)], env=environment) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"partition failed with exit code {process.returncode}")
    print(
        f"{rows} rows: {seconds:.1f} s, {rows / seconds:,.0f} rows/s, "
        f"{usage.ru_utime + usage.ru_stime:.1f} s of CPU, "
        f"peak RSS {usage.ru_maxrss / 1e6:.2f} GB, "
        f"{len(list((folder / 'out' / 'urls').iterdir()))} entries in urls/"
    )


if __name__ == "__main__":
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
    servers = int(sys.argv[2]) if len(sys.argv) > 2 else 545
    with tempfile.TemporaryDirectory() as name:
        write_list(Path(name) / "list.tsv", rows, servers)
        measure(Path(name), rows)
