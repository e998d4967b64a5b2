"""Pairs of near hashes among millions, by a banded index.

Cut 64 bits into k bands. Two hashes that differ in at most d bits agree in at least k - d bands,
whichever these are: for each choice of k - d bands sort by them, and compare those that agree. No
pair within d bits is missed. (Manku, Jain, Das Sarma: Detecting near-duplicates for web crawling,
WWW 2007.) k is chosen so that sorting and comparing cost about the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, count
from math import comb

import numpy as np
import numpy.typing as npt

BITS = 64
MAX_DISTANCE = 8  # bits; beyond, other pictures are as near
MAX_BANDS = 14
MAX_TABLES = 400
MAX_LAG = 2_000  # neighbours that a hash is compared with, in a table where many more agree

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Near hashes: `first` < `second` are places in the list of hashes."""

    first: Places
    second: Places
    distance: npt.NDArray[np.int64]  # bits that differ


def near_pairs(hashes: Hashes, max_distance: int) -> Pairs:
    """All pairs of these different hashes that differ in at most `max_distance` bits."""
    bands = band_masks(best_band_count(len(hashes), max_distance))
    packed = np.empty(0, dtype=np.uint64)
    for chosen in combinations(bands, len(bands) - max_distance):
        mask = np.bitwise_or.reduce(np.array(chosen, dtype=np.uint64))
        found = list(_agreeing(hashes, mask, max_distance))
        if found:  # most near pairs agree in many tables: they are kept once
            packed = np.unique(np.concatenate([packed, *found]))
    first, second = (packed >> 32).astype(np.int64), (packed & 0xFFFFFFFF).astype(np.int64)
    return Pairs(first, second, np.bitwise_count(hashes[first] ^ hashes[second]).astype(np.int64))


def best_band_count(hashes: int, max_distance: int) -> int:
    """How many bands: more of them make more tables, each of which leaves less to compare."""

    def cost(bands: int) -> float:
        bits = (bands - max_distance) * BITS / bands
        return comb(bands, max_distance) * (10 + hashes / 2 ** (bits + 1))

    least = max_distance + 1
    allowed = [k for k in range(least, MAX_BANDS + 1) if comb(k, max_distance) <= MAX_TABLES]
    return min(allowed or [least], key=cost)


def band_masks(bands: int) -> list[int]:
    """Disjoint masks of nearly equal size that cover all bits; neighbouring bits are in different
    bands, since neighbouring frequencies go together.
    """
    return [sum(1 << bit for bit in range(band, BITS, bands)) for band in range(bands)]


def _agreeing(hashes: Hashes, mask: np.uint64, max_distance: int) -> Iterator[Hashes]:
    """Near pairs among the hashes that agree under the mask, packed: first << 32 | second."""
    keys = hashes & mask
    order = np.argsort(keys, kind="stable")
    keys, ordered = keys[order], hashes[order]
    at = np.arange(len(order))
    for lag in count(1):
        at = at[at + lag < len(order)]
        at = at[keys[at] == keys[at + lag]]
        if not len(at) or lag > MAX_LAG:
            return
        near = at[np.bitwise_count(ordered[at] ^ ordered[at + lag]) <= max_distance]
        one, other = order[near].astype(np.uint64), order[near + lag].astype(np.uint64)
        yield np.minimum(one, other) << np.uint64(32) | np.maximum(one, other)
