"""Tools: filters over tables of ten million rows, resize and verification against bare Pillow.

Bytes that our encoder made are resized in the rank, those of strangers in a process beside it.

python tests/benchmarks/bench_tools.py [rows] [images]
"""

import hashlib
import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from distributed_downloader.configuration.config import load_settings
from distributed_downloader.durable import write_parquet
from distributed_downloader.paths import Batch
from distributed_downloader.records import Encoded, Fetched, Row
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.storage.parts import PartNames, PartWriter
from distributed_downloader.tables import SUCCESSES, URLS
from distributed_downloader.tools.job import Job
from distributed_downloader.tools.steps import run_filter, run_runner, run_scheduler

SCRIPTS = Path(__file__).parents[2] / "scripts"
BATCH_ROWS = 100_000
SIDE = 720
PHOTOS = 40  # different ones


def config_of(folder: Path, **parameters: object) -> Path:
    file = folder / "config.yaml"
    given = {
        "path_to_input": str(folder / "urls.txt"),
        "path_to_output": str(folder / "out"),
        "politeness": {"allow_private_addresses": True},
        "downloader_parameters": {"image_size": SIDE},
        "tools_parameters": parameters,
    }
    file.write_text(yaml.safe_dump(given))
    return file


def write_tables(folder: Path, rows: int) -> None:
    """successes.parquet for so many rows, in batches; no shard is there to be opened."""
    paths = load_settings(config_of(folder)).paths
    noise = np.random.default_rng(1)
    for number in range(rows // BATCH_ROWS):
        batch = Batch(f"server-{number % 50}.test", number // 50)
        ids = np.arange(number * BATCH_ROWS, (number + 1) * BATCH_ROWS)
        of_image = np.where(noise.random(BATCH_ROWS) < 0.02, ids % 1000, ids)  # 2% are repeats
        sides = noise.integers(100, 3000, (BATCH_ROWS, 2), dtype=np.int32)
        hashes = [hashlib.md5(str(image).encode()).hexdigest() for image in of_image]
        known = pl.DataFrame(
            {
                "uuid": [f"00000000-0000-5000-8000-{row:012d}" for row in ids],
                "source_id": [str(row) for row in ids],
                "identifier": [f"http://{batch.server_name}/photos/{row}.jpg" for row in ids],
                "hashsum_original": hashes,
                "hashsum_resized": hashes,
                "original_size": list(sides),
                "index": np.arange(BATCH_ROWS),
            },
            schema_overrides={"original_size": pl.List(pl.Int32)},
        )
        rest = [
            pl.lit(None, dtype).alias(name)
            for name, dtype in SUCCESSES.items()
            if name not in known.columns
        ]
        table = known.with_columns(rest).select(SUCCESSES.names())
        write_parquet(paths.batch_images(batch) / "successes.parquet", table)


def measure_filter(folder: Path, tool: str) -> None:
    settings = load_settings(config_of(folder))
    began, cpu_began = time.perf_counter(), time.process_time()
    images = run_filter(settings, tool)
    filtered = time.perf_counter() - began
    run_scheduler(settings, tool)
    cpu_s = time.process_time() - cpu_began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{tool}: {images:,} picked in {filtered:.1f} s, "
        f"scheduled in {time.perf_counter() - began - filtered:.1f} s ({cpu_s:.1f} s of CPU); "
        f"peak {peak:.2f} GB"
    )


def photo(seed: int) -> bytes:
    noise = np.random.default_rng(seed)
    small = Image.fromarray(noise.integers(0, 256, (54, 72, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((SIDE, SIDE * 3 // 4), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_images(folder: Path, bodies: list[bytes], *, as_received: bool = True) -> None:
    settings = load_settings(config_of(folder))
    for number in range(8):
        batch = Batch("photos.test", number)
        mine = bodies[number::8]
        writer = PartWriter(batch, PartNames(0, 0))
        uuids = [f"{number}-{row}" for row in range(len(mine))]
        for uuid, body in zip(uuids, mine, strict=True):
            md5, size = hashlib.md5(body).hexdigest(), (SIDE * 3 // 4, SIDE)
            original = md5 if as_received else "0" * 32
            row = Row(uuid, None, f"http://{uuid}", batch.server_name, batch)
            fetched = Fetched(b"", 200, uuid, "image/jpeg", None, None, 0.1)
            writer.add_image(row, fetched, Encoded(body, None, original, md5, size, size, None))
        writer.commit(settings.paths.batch_images(batch), lambda: None)
        known = pl.DataFrame({"uuid": uuids, "server": [batch.server_name] * len(uuids)})
        rest = [pl.lit(None, pl.String).alias(name) for name in URLS if name not in known.columns]
        table = known.with_columns(rest).select(URLS.names())
        write_parquet(settings.paths.batch_urls(batch), table)
        consolidate(batch, settings.paths, len(mine), retries_waves=1, allowed=lambda: None)


def cpu_s() -> float:
    """Seconds of CPU of this process, and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def bare_resize(body: bytes) -> None:
    image = Image.open(io.BytesIO(body))
    image.thumbnail((224, 224), Image.Resampling.LANCZOS)
    image.save(io.BytesIO(), "JPEG", quality=90)


def bare_look(body: bytes) -> None:
    Image.open(io.BytesIO(body)).load()


def bare(bodies: list[bytes], look: Callable[[bytes], None]) -> float:
    """Seconds of the loop that anybody would write, on one core."""
    began = cpu_s()
    for body in bodies:
        look(body)
    return cpu_s() - began


def prepare(folder: Path, tool: str, ranks: int, **parameters: object) -> Path:
    """The config of a tool of which nothing is done yet."""
    config = config_of(folder, workers_per_node=ranks, **parameters)
    settings = load_settings(config)
    shutil.rmtree(settings.paths.tools, ignore_errors=True)
    run_filter(settings, tool)
    run_scheduler(settings, tool)
    return config


def here(folder: Path, tool: str) -> float:
    """Seconds of CPU that the work takes from here, reading, writing and decoders included."""
    settings = load_settings(prepare(folder, tool, 1, new_resize_size=224))
    began = cpu_s()
    run_runner(settings, tool, Job())
    return cpu_s() - began


def job(config: Path, tool: str, ranks: int) -> float:
    """Seconds of the work itself, as its MPI job tells."""
    progress = config.with_name("progress.json")
    mpiexec = Path(sys.executable).parent / "mpiexec"
    command = [mpiexec, "-n", ranks, sys.executable, "-m", "mpi4py", SCRIPTS / "run_tool.py"]
    words = ["--config", config, "--log", config.with_name("rank-0.log"), "--tool", tool]
    more = ["--ranks", ranks, "--progress", progress]
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([str(w) for w in [*command, *words, *more]], check=True, env=environment)
    return float(yaml.safe_load(progress.read_text())["seconds"])


def by_the_clock(folder: Path, tool: str, ranks: int) -> float:
    """Seconds of a whole job."""
    return job(prepare(folder, tool, ranks, new_resize_size=224), tool, ranks)


def measure_images(folder: Path, images: int, *, as_received: bool) -> None:
    photos = [photo(seed) for seed in range(PHOTOS)]
    bodies = [photos[number % PHOTOS] for number in range(images)]
    write_images(folder, bodies, as_received=as_received)
    print(f"{images:,} JPEGs of {SIDE} pixels, {'as received' if as_received else 'made by us'}:")
    for tool, look in (("resize", bare_resize), ("image_verification", bare_look)):
        bare_s, tool_s = bare(bodies, look), here(folder, tool)
        one_s, two_s = (by_the_clock(folder, tool, ranks) for ranks in (1, 2))
        print(
            f"  {tool}: bare Pillow {images / bare_s:.0f} images/s on a core; "
            f"the tool {images / tool_s:.0f} ({bare_s / tool_s:.0%}); by the clock: "
            f"1 rank {images / one_s:.0f}/s, 2 ranks {images / two_s:.0f}/s "
            f"({one_s / two_s:.2f} times)",
            flush=True,
        )


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    images = int(sys.argv[2]) if len(sys.argv) > 2 else 4000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if images:
            for as_received in (False, True):
                place = folder / f"images-{as_received}"
                place.mkdir()
                measure_images(place, images, as_received=as_received)
        if rows:
            (folder / "tables").mkdir()
            write_tables(folder / "tables", rows)
            measure_filter(folder / "tables", "size_based")
            measure_filter(folder / "tables", "duplication_based")


if __name__ == "__main__":
    main()
