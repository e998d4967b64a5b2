"""near_duplicates: time over a million hashes, recall of planted copies, false pairs.

    python tests/benchmarks/bench_near_duplicates.py [hashes] [photos]

1. Photos are copied as the web does it (resized, re-encoded), and all are hashed as the tool does:
   how many bits a copy's hash differs in.
2. A million hashes: for one in nine a copy is planted. As many copies as in 1 are too far away; the
   others differ in 0 to 6 bits, each as often, which is harder than what 1 finds. They are grouped
   as the tool does it. A planted pair counts as found if both are in one group.
   A false pair is any other pair of one group; of all n(n-1)/2 pairs, how many are false.
3. False pairs among the photos themselves, all of which differ.
"""

import io
import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from distributed_downloader.fleet.photos import photo
from distributed_downloader.likeness.groups import LIKENESSES, groups_of
from distributed_downloader.likeness.perceptual import bits_of, likeness_of

DISTANCE = 6  # near_distance's default
PLANTED = 0.1


def recoded(image: Image.Image, form: str, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, form, quality=quality)
    return Image.open(io.BytesIO(out.getvalue())).convert("RGB")


def resized(image: Image.Image, longest: int) -> Image.Image:
    small = image.copy()
    small.thumbnail((longest, longest))
    return recoded(small, "JPEG", 85)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "to 224 pixels": lambda image: resized(image, 224),
    "to 112 pixels": lambda image: resized(image, 112),
    "JPEG of quality 50": lambda image: recoded(image, "JPEG", 50),
    "WebP of quality 60": lambda image: recoded(image, "WEBP", 60),
    "224 pixels, then quality 50": lambda image: recoded(resized(image, 224), "JPEG", 50),
}


def hashes_of(images: list[Image.Image]) -> npt.NDArray[np.uint64]:
    return bits_of([likeness_of(image).phash for image in images])


def distances_of_copies(count: int) -> npt.NDArray[np.int64]:
    """Bits that copies of photos differ in; prints them, and the pairs of photos that are near."""
    originals = [
        Image.open(io.BytesIO(photo(f"near/{number}", "small"))).convert("RGB")
        for number in range(count)
    ]
    hashes, found = hashes_of(originals), []
    for name, copy in COPIES.items():
        copies = hashes_of([copy(image) for image in originals])
        bits = np.bitwise_count(hashes ^ copies).astype(np.int64)
        near = np.mean(bits <= DISTANCE)
        print(f"  {name:28}: median {np.median(bits):.0f} bits, {near:.1%} within {DISTANCE}")
        found.append(bits)
    false = sum(
        int(one ^ other).bit_count() <= DISTANCE for one, other in combinations(hashes.tolist(), 2)
    )
    print(f"  different photos within {DISTANCE} bits: {false} of {count * (count - 1) // 2} pairs")
    return np.concatenate(found)


def planted(count: int, bits: npt.NDArray[np.int64], rng: np.random.Generator) -> pl.DataFrame:
    """Hashes with half their bits set, as phash makes them, the last ones copies of the first."""
    copies = int(count * PLANTED)
    order = rng.permuted(np.tile(np.arange(64, dtype=np.uint8), (count - copies, 1)), axis=1)
    originals = np.bitwise_or.reduce(np.uint64(1) << order[:, :32].astype(np.uint64), axis=1)
    flips = rng.permuted(np.tile(np.arange(64, dtype=np.uint8), (copies, 1)), axis=1)
    drawn = rng.choice(bits, copies)
    drawn = np.where(drawn > DISTANCE, drawn, rng.integers(0, DISTANCE + 1, copies))
    chosen = np.arange(64) < drawn[:, None]
    masks = np.bitwise_or.reduce(
        np.where(chosen, np.uint64(1) << flips.astype(np.uint64), np.uint64(0)), axis=1
    )
    hashes = np.concatenate([originals, originals[:copies] ^ masks])
    return pl.DataFrame(
        {
            "uuid": [str(number) for number in range(count)],
            "phash": [f"{value:016x}" for value in hashes.tolist()],
            "contrast": 50.0,
            "server_name": "images.example.org",
            "partition_id": 0,
        },
        LIKENESSES,
    )


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    photos = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    print(f"{photos} photos and their copies:")
    start = time.perf_counter()
    bits = distances_of_copies(photos)
    print(f"  made and hashed in {time.perf_counter() - start:.0f} s")
    table = planted(count, bits, np.random.default_rng(1))
    start = time.perf_counter()
    groups = groups_of(table, DISTANCE)
    seconds = time.perf_counter() - start
    first = count - int(count * PLANTED)
    main = dict(groups.select("uuid", "uuid_main").iter_rows())
    hits = sum(
        str(copy) in main and main[str(copy)] == main.get(str(copy - first))
        for copy in range(first, count)
    )
    sizes = groups.group_by("uuid_main").len()["len"].cast(pl.Int64)
    false = int((sizes * (sizes - 1) // 2).sum()) - hits
    pairs = count * (count - 1) // 2
    print(f"{count} hashes: {seconds:.1f} s, recall {hits / (count - first):.4f}")
    print(f"false pairs: {false} of {pairs}, {false / pairs * 1e6:.6f} in a million")
