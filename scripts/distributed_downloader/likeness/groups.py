"""Groups of images that look alike: each has a main image, and all others are near *it*.

1. Images come in order; the first that no earlier main is near to is a main itself.
2. A group's members are within the distance of its main: likeness is not passed on from one to the
   next, so a group cannot drift from one picture to another.
3. Images without contrast are in no group: their hashes say nothing.
"""

import numpy as np
import polars as pl

from distributed_downloader.likeness.bands import Pairs, near_pairs
from distributed_downloader.likeness.perceptual import MIN_CONTRAST, bits_of

LIKENESSES = pl.Schema(
    {
        "uuid": pl.String,
        "phash": pl.String,  # 16 hex digits
        "contrast": pl.Float64,
        "server_name": pl.String,
        "partition_id": pl.Int64,
    }
)

GROUPS = pl.Schema(
    {
        "uuid_main": pl.String,  # names the group
        "uuid": pl.String,
        "server_name": pl.String,
        "partition_id": pl.Int64,
        "phash": pl.String,
        "distance": pl.Int64,  # bits that differ from the main image's hash
    }
)


def groups_of(images: pl.DataFrame, max_distance: int) -> pl.DataFrame:
    """The images that are near another; GROUPS, each group's main first.

    `images`: LIKENESSES, in the order in which one is the main of the others.
    """
    told = images.filter(pl.col("contrast") >= MIN_CONTRAST)
    different = told.select(pl.col("phash").unique(maintain_order=True))
    mains, distances = mains_of(
        near_pairs(bits_of(different["phash"].to_list()), max_distance), len(different)
    )
    named = different.with_columns(
        main=different["phash"].gather(mains), distance=pl.Series(distances, dtype=pl.Int64)
    )
    members = told.join(named, on="phash", how="left", maintain_order="left").with_columns(
        uuid_main=pl.col("uuid").first().over("main")
    )
    in_groups = members.filter(pl.len().over("main") > 1)
    first = pl.int_range(pl.len()).min().over("main")
    return in_groups.sort(first, maintain_order=True).select(GROUPS.names())


def mains_of(pairs: Pairs, size: int) -> tuple[list[int], list[int]]:
    """For each of `size` hashes the place of its main (its own, if it is one), and the distance."""
    mains, distances = list(range(size)), [0] * size
    order = np.lexsort((pairs.second, pairs.first))
    columns = (pairs.first, pairs.second, pairs.distance)
    for first, second, distance in zip(*(one[order].tolist() for one in columns), strict=True):
        if mains[first] == first and mains[second] == second:
            mains[second], distances[second] = first, distance
    return mains, distances
