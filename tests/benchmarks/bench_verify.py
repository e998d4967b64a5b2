"""How long verify takes over many small batches: the first time, again, and when one has changed.

python tests/benchmarks/bench_verify.py [batches] [folder]

With a folder, what is there is measured, and stays.
"""

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.checksums import write_sealed
from distributed_downloader.configuration.config import resolve_config, settings_of
from distributed_downloader.durable import write_json
from distributed_downloader.paths import Batch
from distributed_downloader.settings import Settings
from distributed_downloader.storage.image_files import new_image_file, offsets_of
from distributed_downloader.tables import DUPLICATES, ERRORS, PARTITIONS, SUCCESSES, URLS

ROWS = 10  # of a batch, all with an image but the last
IMAGE_BYTES = 8_000
NOTED = {"absorbed": "[]", "next_shard": "1"}


def settings(root: Path) -> Settings:
    return settings_of(resolve_config({"path_to_input": "urls.txt", "path_to_output": str(root)}))


def batches(count: int) -> list[Batch]:
    return [Batch(f"host-{number % 400}.example.org", number // 400) for number in range(count)]


def fill(root: Path, count: int) -> None:
    """Consolidated batches of random bytes, and the list that they come from."""
    paths = settings(root).paths
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        list(workers.map(fill_batch, [root] * count, range(count), batches(count), chunksize=100))
    listed = sorted((b.server_name, b.partition_id, ROWS) for b in batches(count))
    write_sealed(paths.partitions, pl.DataFrame(listed, PARTITIONS, orient="row"))
    write_sealed(paths.duplicates, pl.DataFrame(schema=DUPLICATES))
    write_sealed(paths.rejected, pl.DataFrame(schema={"uuid": pl.String, "reason": pl.String}))
    write_json(paths.source, {"counts": {"rows": count * ROWS}})


def fill_batch(root: Path, number: int, batch: Batch) -> None:
    paths = settings(root).paths
    rows = list(rows_of(number, batch))
    for file in (paths.batch_urls(batch), paths.batch_images(batch) / "x"):
        file.parent.mkdir(parents=True)
    table = pl.DataFrame([{name: row.get(name) for name in URLS} for row in rows], URLS)
    write_sealed(paths.batch_urls(batch), table)
    data = [os.urandom(IMAGE_BYTES) for _ in rows[:-1]]
    for row, body in zip(rows, data, strict=False):
        row["hashsum_resized"] = row["hashsum_original"] = hashlib.md5(body).hexdigest()
    folder = paths.batch_images(batch)
    with new_image_file(folder / "images-0.h5", batch, [row["uuid"] for row in rows[:-1]]) as file:
        file.lay_out("data", offsets_of([IMAGE_BYTES] * len(data)))
        file.append_all("data", data)
    images = [{name: row.get(name) for name in SUCCESSES} for row in rows[:-1]]
    errors = [{name: row.get(name) for name in ERRORS} for row in rows[-1:]]
    write_sealed(folder / "successes.parquet", pl.DataFrame(images, SUCCESSES), NOTED)
    write_sealed(folder / "errors.parquet", pl.DataFrame(errors, ERRORS), NOTED)


def rows_of(number: int, batch: Batch) -> Iterator[dict[str, Any]]:
    for index in range(ROWS):
        yield {
            "uuid": f"{number:08}-0000-0000-0000-{index:012}",
            "identifier": f"http://{batch.server_name}/{number}/{index}.jpg",
            "server": batch.server_name,
            "file": "images-0.h5",
            "index": index,
            "fetched_at": datetime.fromtimestamp(1_700_000_000 + number, UTC),
            "wave": 0,
            "retry_count": 0,
            "error_code": 404,
            "error_class": "not_found",
            "retryable": False,
        }


def measure(what: str, of: Settings, count: int) -> None:
    start = time.perf_counter()
    summary = verify_dataset(of)
    seconds = time.perf_counter() - start
    assert summary["states"]["ok"] == count * (ROWS - 1)
    print(f"{what:<34} {seconds:7.1f} s, {1000 * seconds / count:7.3f} ms a batch", flush=True)


def main(count: int, root: Path) -> None:
    if not settings(root).paths.source.exists():
        fill(root, count)
    of = settings(root)
    of.paths.verified.unlink(missing_ok=True)
    print(f"{count} batches of {ROWS} rows")
    measure("all read", of, count)
    measure("nothing changed", of, count)
    (of.paths.batch_images(batches(count)[count // 2]) / "images-0.h5").touch()
    measure("one batch changed", of, count)


if __name__ == "__main__":
    asked = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    if len(sys.argv) > 2:
        main(asked, Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(asked, Path(folder))
