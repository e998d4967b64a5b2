"""Images encoded per second: 1500 x 2000 photos of about 150 KB to 224 pixels.

python tests/benchmarks/bench_codec.py [images]
"""

import io
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from distributed_downloader.codec.images import encode
from distributed_downloader.records import Encoded
from distributed_downloader.settings import Images

SETTINGS = Images(224, "longest_side", "jpeg", 90, False, 20_000_000, 100_000_000)
WANTED_BYTES = 150_000


def photo(seed: int, size: tuple[int, int] = (1500, 2000)) -> bytes:
    """A photo-like JPEG: smooth areas, some texture, about as many bytes as real ones."""
    noise = random.Random(seed)
    small = Image.frombytes("RGB", (48, 64), noise.randbytes(48 * 64 * 3))
    smooth = small.resize(size, Image.Resampling.BICUBIC)
    grain = Image.frombytes("RGB", (375, 500), noise.randbytes(375 * 500 * 3)).resize(size)
    picture = Image.blend(smooth, grain, 0.09).filter(ImageFilter.GaussianBlur(1))
    bodies = []
    for quality in (90, 80, 70, 60, 50, 40):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        bodies.append(buffer.getvalue())
    return min(bodies, key=lambda body: abs(len(body) - WANTED_BYTES))


def measure(bodies: list[bytes], count: int, threads: int) -> None:
    """Encode `count` images and print what it took."""
    work = [bodies[i % len(bodies)] for i in range(count)]
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        outcomes = list(pool.map(lambda body: encode(body, SETTINGS), work))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert all(isinstance(outcome, Encoded) for outcome in outcomes)
    print(f"{threads} threads: {count / wall:6.0f} images/s, {1000 * cpu / count:5.2f} ms CPU each")


if __name__ == "__main__":
    bodies = [photo(seed) for seed in range(8)]
    print(f"{sum(map(len, bodies)) / len(bodies) / 1000:.0f} KB a photo")
    for threads in (1, 2):
        measure(bodies, int(sys.argv[1]) if len(sys.argv) > 1 else 300, threads)
