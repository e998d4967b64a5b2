from functools import reduce
from operator import or_, xor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.likeness import bands
from distributed_downloader.likeness.bands import (
    MAX_DISTANCE,
    band_masks,
    best_band_count,
    near_pairs,
)

hashes = st.integers(0, 2**64 - 1)
flips = st.sets(st.integers(0, 63), max_size=MAX_DISTANCE + 2)


def pairs_of(values, distance):
    found = near_pairs(np.array(values, dtype=np.uint64), distance)
    columns = (found.first, found.second, found.distance)
    return set(zip(*(column.tolist() for column in columns), strict=True))


@given(st.lists(st.tuples(hashes, flips), min_size=1, max_size=8), st.integers(0, MAX_DISTANCE))
def test_all_pairs_within_the_distance_are_found_and_no_others(planted, distance):
    copies = [value ^ sum(1 << bit for bit in bits) for value, bits in planted]
    values = list(dict.fromkeys([value for value, _ in planted] + copies))
    expected = {
        (one, other, (values[one] ^ values[other]).bit_count())
        for one in range(len(values))
        for other in range(one + 1, len(values))
        if (values[one] ^ values[other]).bit_count() <= distance
    }
    assert pairs_of(values, distance) == expected


@pytest.mark.parametrize("count", range(1, 15))
def test_bands_share_no_bit_and_leave_none_out(count):
    masks = band_masks(count)
    assert len(masks) == count
    assert reduce(or_, masks) == reduce(xor, masks) == 2**64 - 1
    sizes = [mask.bit_count() for mask in masks]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("distance", range(MAX_DISTANCE + 1))
def test_more_hashes_ask_for_no_fewer_bands(distance):
    counts = [best_band_count(size, distance) for size in (1, 1000, 10**6, 10**9)]
    assert counts == sorted(counts)
    assert min(counts) > distance


def test_thousands_that_agree_in_a_band_are_compared_with_so_many_only(monkeypatch):
    monkeypatch.setattr(bands, "MAX_LAG", 3)
    values = [number << 40 for number in range(200)]
    found = pairs_of(values, 0)
    assert found == set()


def test_nothing_and_one_have_no_pairs():
    assert pairs_of([], 6) == pairs_of([5], 6) == set()
