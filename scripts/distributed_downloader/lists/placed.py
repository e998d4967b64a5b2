"""Rows that have their place in a folder already: a list that has grown leaves them there.

A row is its uuid and its normalised URL. Of each row there are 8 bytes in memory, a hash of both;
whether two rows share one is found out, since the rows that stay are counted from both sides.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from distributed_downloader.lists.generations import Generation
from distributed_downloader.paths import Batch, OutputPaths

SLAB_ROWS = 500_000
NEVER_THERE = 2

Hashes = npt.NDArray[np.uint64]

_ODD = np.uint64(0x9E3779B97F4A7C15)  # golden ratio: spreads one hash before the other is added


def identities(uuid_hash: pl.Series, url_hash: pl.Series) -> Hashes:
    """What tells rows apart: of their uuids' and URLs' hashes."""
    return uuid_hash.to_numpy() ^ (url_hash.to_numpy() * _ODD)


def is_among(hashes: Hashes, known: Hashes) -> npt.NDArray[np.bool_]:
    """Whether each is one of `known`, which is sorted; a table of them would take more memory."""
    if not len(known):
        return np.zeros(len(hashes), dtype=bool)
    found = np.empty(len(hashes), dtype=bool)
    for start in range(0, len(hashes), SLAB_ROWS):
        piece = hashes[start : start + SLAB_ROWS]
        places = np.minimum(np.searchsorted(known, piece), len(known) - 1)
        found[start : start + SLAB_ROWS] = known[places] == piece
    return found


@dataclass(frozen=True, slots=True)
class Placed:
    """What lies in the batches of a folder; nothing, when it is partitioned first."""

    batches: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(
            schema={"server_name": pl.String, "partition_id": pl.Int64, "rows": pl.Int64}
        )
    )
    rows: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))  # batch after batch
    known: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))  # the same, sorted
    buried: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))  # tombstones, sorted

    @classmethod
    def of(cls, paths: OutputPaths, generation: Generation) -> "Placed":
        """Read all batches of a folder, two columns, some at a time."""
        batches = generation.partitions()
        pieces = [
            identities(slab["uuid_hash"], slab["url_hash"])
            for slab in _slabs(paths, batches, uuid_hash="uuid", url_hash="identifier")
        ]
        rows = np.concatenate([np.empty(0, np.uint64), *pieces])
        return cls(batches, rows, np.sort(rows), _buried(generation))

    def rank_of(self, uuid_hash: pl.Series, url_hash: pl.Series) -> pl.Series:
        """0: has its place, 1: had it before the list lost it, NEVER_THERE."""
        if not len(self.rows):
            return pl.repeat(NEVER_THERE, len(uuid_hash), dtype=pl.UInt8, eager=True)
        hashes = identities(uuid_hash, url_hash)
        rank = np.where(is_among(hashes, self.known), 0, NEVER_THERE)
        return pl.Series(np.where(is_among(hashes, self.buried), 1, rank), dtype=pl.UInt8)

    @property
    def next_ids(self) -> pl.DataFrame:
        """server_name, next_id: the first partition_id that no batch of it has."""
        return self.batches.group_by("server_name").agg(next_id=pl.col("partition_id").max() + 1)

    def by_batch(self, of_rows: npt.NDArray[np.bool_]) -> Iterator[tuple[Batch, Hashes]]:
        """The batches that hold any of these rows, with their numbers in the batch."""
        start = 0
        for server, number, rows in self.batches.select(
            "server_name", "partition_id", "rows"
        ).iter_rows():
            numbers = np.flatnonzero(of_rows[start : start + rows])
            start += rows
            if len(numbers):
                yield Batch(server, number), numbers.astype(np.uint64)


def _buried(generation: Generation) -> Hashes:
    if not generation.tombstones.is_file():
        return np.empty(0, np.uint64)
    table = pl.scan_parquet(generation.tombstones)
    hashes = table.select(pl.col("uuid").hash(), pl.col("identifier").hash()).collect()
    return np.sort(identities(hashes["uuid"], hashes["identifier"]))


def _slabs(paths: OutputPaths, batches: pl.DataFrame, **hashed: str) -> Iterator[pl.DataFrame]:
    """Hashes of these columns of all batches, in their order, about SLAB_ROWS at a time."""
    wanted = [pl.col(column).hash().alias(name) for name, column in hashed.items()]
    for files in _files(paths, batches):
        table = pl.scan_parquet(files, hive_partitioning=False, glob=False)
        yield table.select(wanted).collect()


def _files(paths: OutputPaths, batches: pl.DataFrame) -> Iterator[list[Path]]:
    files: list[Path] = []
    held = 0
    names = batches.select("server_name", "partition_id", "rows")
    for server, number, rows in names.iter_rows():
        files.append(paths.batch_urls(Batch(server, number)))
        held += rows
        if held >= SLAB_ROWS:
            yield files
            files, held = [], 0
    if files:
        yield files
