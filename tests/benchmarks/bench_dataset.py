"""Random reads per second from a dataset of small images.

python tests/benchmarks/bench_dataset.py [images]
"""

import hashlib
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.records import Encoded, Fetched, Row
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.storage.dataset import Dataset
from distributed_downloader.storage.parts import PartNames, PartWriter

PER_PART = 2_000
IMAGE_BYTES = 8_000
BATCHES = 8


def fill(root: Path, count: int, image_bytes: int = IMAGE_BYTES) -> None:
    """Batches of random bytes that begin as a JPEG does, consolidated."""
    paths, names = OutputPaths.of(root), PartNames(0, 0)
    noise = random.Random(1)
    for number in range(BATCHES):
        batch = Batch("images.example.org", number)
        writer = PartWriter(batch, names)
        for index in range(count // BATCHES):
            size = noise.randrange(image_bytes // 2, image_bytes * 3 // 2)
            data = b"\xff\xd8\xff" + noise.randbytes(size)
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            uuid = f"{number:08}-{index:027}"
            row = Row(uuid, None, f"http://images.example.org/{index}", batch.server_name, batch)
            fetched = Fetched(b"", 200, row.identifier, "image/jpeg", None, None, 0.1)
            writer.add_image(row, fetched, Encoded(data, None, md5, md5, (9, 9), (9, 9), None))
            if len(writer) == PER_PART:
                writer.commit(paths.batch_images(batch), lambda: None)
        writer.commit(paths.batch_images(batch), lambda: None)
        consolidate(batch, paths, count, retries_waves=1, allowed=lambda: None)


def measure(name: str, keys: list[int] | list[str], dataset: Dataset) -> None:
    """Read these and print the speed."""
    start = time.perf_counter()
    size = sum(len(dataset.bytes(key)) for key in keys)
    seconds = time.perf_counter() - start
    print(f"{name}: {len(keys) / seconds:8.0f} images/s, {size / seconds / 1e6:6.0f} MB/s")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40_000
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        fill(Path(folder), count)
        print(f"written and consolidated: {count / (time.perf_counter() - start):8.0f} images/s")
        start = time.perf_counter()
        with Dataset(folder) as dataset:
            print(f"opened {len(dataset)} images in {time.perf_counter() - start:.2f} s")
            positions = [random.randrange(len(dataset)) for _ in range(len(dataset))]
            measure("in order         ", list(range(len(dataset))), dataset)
            measure("random           ", positions, dataset)
            dataset.position(dataset[0].uuid)
            measure("random, by uuid  ", [dataset[n].uuid for n in positions[:20_000]], dataset)
