"""Images encoded per second: 1500 x 2000 photos of about 150 KB to 224 pixels.

In threads of this process, and in the processes that a rank leaves it to: what a crash that takes
nothing with it costs. CPU is that of this process and of its children.

python tests/benchmarks/bench_codec.py [images]
"""

import asyncio
import io
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from distributed_downloader.codec.images import encode
from distributed_downloader.codec.processes import Codec
from distributed_downloader.records import Encoded, Failed
from distributed_downloader.settings import Images

SETTINGS = Images(224, "longest_side", "jpeg", 90, False, 20_000_000, 100_000_000, 800_000_000)
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


def cpu_s() -> float:
    """Seconds of CPU so far, of this process and of its children that ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def in_threads(work: list[bytes], threads: int) -> list[Encoded | Failed]:
    """Encoded where a crash would end everything."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda body: encode(body, SETTINGS), work))


def in_processes(work: list[bytes], processes: int) -> list[Encoded | Failed]:
    """Encoded as by a rank."""

    async def main() -> list[Encoded | Failed]:
        codec = Codec(SETTINGS, processes)
        try:
            return await asyncio.gather(*map(codec.encode, work))
        finally:
            codec.close()

    return asyncio.run(main())


def seconds_to_start(times: int = 5) -> float:
    """CPU that a process takes before its first image."""
    began = cpu_s()
    for _ in range(times):
        in_processes([b""], 1)
    return (cpu_s() - began) / times


def measure(name: str, bodies: list[bytes], count: int, at_once: int, start_s: float) -> None:
    """Encode `count` images and print what it took."""
    work = [bodies[i % len(bodies)] for i in range(count)]
    encode_all = in_threads if name == "threads" else in_processes
    wall, cpu = time.perf_counter(), cpu_s()
    outcomes = encode_all(work, at_once)
    wall, cpu = time.perf_counter() - wall, cpu_s() - cpu
    assert all(isinstance(outcome, Encoded) for outcome in outcomes)
    if name == "processes":
        cpu -= at_once * start_s
    rate, each_ms = count / wall, 1000 * cpu / count
    print(f"{at_once} {name:9}: {rate:6.0f} images/s, {each_ms:5.2f} ms CPU each")


if __name__ == "__main__":
    bodies = [photo(seed) for seed in range(8)]
    print(f"{sum(map(len, bodies)) / len(bodies) / 1000:.0f} KB a photo")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    start_s = seconds_to_start()
    print(f"{start_s:.2f} s CPU to start a process (not in the figures of each)")
    for at_once in (1, 2):
        for name in ("threads", "processes"):
            measure(name, bodies, count, at_once, start_s)
