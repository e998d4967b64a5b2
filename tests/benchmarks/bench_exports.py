"""What the exports take of the time of `cp` of the same bytes, in turns, median of five.

    python tests/benchmarks/bench_exports.py [mean bytes of an image] [megabytes] [ranks ...]

`cp` copies the dataset's images folder (for export_files: the exported folder, file by file) and is
followed by `sync`, as an export's file is whole only when it is on the disk. The export is the
tool's MPI job, with as many ranks as the config's default (2) unless others are named. export_files
exports a tenth: most of its time, and of cp's, goes into making files. All of it lies where TMPDIR
says: the slower that disk is, the less the exports' own work counts; /dev/shm is no disk at all.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from bench_dataset import fill
from bench_tools import job, prepare

from distributed_downloader.configuration.config import load_settings

ROUNDS = int(os.environ.get("ROUNDS", "5"))


def copied(source: Path, target: Path) -> float:
    """Seconds of `cp`, until the bytes are on the disk."""
    began = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    subprocess.run(["sync", "-f", str(target)], check=True)
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return seconds


def turns(tool: str, folder: Path, ranks: int) -> Iterator[tuple[float, float]]:
    """Seconds of the export and of `cp`, after one of each that does not count."""
    for number in range(ROUNDS + 1):
        config = prepare(folder, tool, ranks)
        paths = load_settings(config).paths
        ours = job(config, tool, ranks)
        source = paths.tools / tool / "data" if tool == "export_files" else paths.images
        theirs = copied(source, folder / "copy")
        if number:
            yield ours, theirs


def compare(tool: str, folder: Path, ranks: int) -> None:
    ours, theirs = map(median, zip(*turns(tool, folder, ranks), strict=True))
    print(
        f"{tool:18} {ranks} ranks: {ours:6.2f} s, cp {theirs:6.2f} s: {ours / theirs:.2f} times",
        flush=True,
    )


def measure(tools: Sequence[str], images: int, mean_bytes: int, ranks: Sequence[int]) -> None:
    """Of a dataset of so many images."""
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name) / "out", images, mean_bytes)
        print(f"{images} images of {mean_bytes / 1e3:g} KB")
        for tool in tools:
            for number in ranks:
                compare(tool, Path(name), number)


def main() -> None:
    given = [int(word) for word in sys.argv[1:]]
    mean_bytes, size, *ranks = [*given, *(30_000, 2_000)[len(given) :]]
    images = size * 1_000_000 // mean_bytes
    measure(["export_webdataset", "export_parquet"], images, mean_bytes, ranks or [2])
    measure(["export_files"], images // 10, mean_bytes, ranks or [2])


if __name__ == "__main__":
    main()
