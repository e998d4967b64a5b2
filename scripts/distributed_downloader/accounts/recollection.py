"""What the last count saw of each batch, and how its files looked: `verified.parquet`.

A batch whose files look as they did (their names, sizes, times and inodes) is not opened again: its
rows are taken from ledger.parquet. None of it is believed if the ledger is not the very one that
was written with it; if rows are counted by other rules today, every batch is opened.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader.accounts.counts import BatchCount, Timeline, WaveImages
from distributed_downloader.checksums import is_whole, write_sealed
from distributed_downloader.durable import ORPHAN_PREFIX, whole_file
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.tables import Column
from distributed_downloader.waves.left import LeftRows

BLOCK_ROWS = 500_000
_LEFT = pl.Struct({"server": pl.String, "pending": pl.Int64, "retryable": pl.Int64})
_WAVE = pl.Struct(
    {
        "wave": pl.Int32,
        "images": pl.Int64,
        "first": pl.Float64,
        "last": pl.Float64,
        "unchanged": pl.Int64,
    }
)
_STRETCH = pl.Struct({"second": pl.Int64, "images": pl.Int64})
_COLUMNS: dict[str, Column] = {
    "server_name": pl.String,
    "partition_id": pl.Int64,
    "rows": pl.Int64,
    "look": pl.String,
    "files": pl.List(pl.String),
    "left": pl.List(_LEFT),
    "waves": pl.List(_WAVE),
    "width_s": pl.Int64,
    "images": pl.List(_STRETCH),
}
VERIFIED = pl.Schema(_COLUMNS)


@dataclass(frozen=True, slots=True)
class Look:
    """How a batch's files look from outside; equal looks mean that nothing was written."""

    digest: str
    files: tuple[str, ...]  # their names, in the batch's folder of images

    @classmethod
    def at(cls, batch: Batch, paths: OutputPaths) -> "Look":
        """Names, sizes, times and inodes; no file is opened."""
        files = sorted(_entries(paths.batch_images(batch), ""))
        urls = _entry("urls.parquet", paths.batch_urls(batch))
        digest = hashlib.sha256(repr([urls, files]).encode()).hexdigest()
        return cls(digest, tuple(name for name, *_ in files))


Entry = tuple[str, int, int, int]


def _entries(folder: Path, prefix: str) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(ORPHAN_PREFIX):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _entries(folder / entry.name, f"{prefix}{entry.name}/")
                else:
                    status = entry.stat()
                    yield (prefix + entry.name, *_facts(status))
    except FileNotFoundError:
        return


def _entry(name: str, path: Path) -> Entry | None:
    try:
        return (name, *_facts(path.stat()))
    except FileNotFoundError:
        return None


def _facts(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


class Recollection:
    """The last count; asked batch by batch, in the order of partitions.parquet."""

    def __init__(self, paths: OutputPaths, table: pl.DataFrame, *, has_same_rules: bool) -> None:
        self._has_same_rules = has_same_rules
        self._ledger = pl.scan_parquet(paths.ledger)
        self._looks = table["look"].to_list()
        self._files = table["files"].to_list()
        self._counts = table.select("left", "waves", "width_s", "images")
        self._starts = [0, *table["rows"].cum_sum().to_list()]
        self._block: tuple[int, pl.DataFrame] | None = None

    @classmethod
    def of(cls, paths: OutputPaths, rules: str, partitions: pl.DataFrame) -> "Recollection | None":
        """What is known; None if nothing is, or nothing that may be believed."""
        file, keys = paths.verified, ["server_name", "partition_id", "rows"]
        if not (file.is_file() and paths.ledger.is_file() and is_whole(file)):
            return None
        told = pl.read_parquet_metadata(file)
        if told.get("ledger") != _identity(paths.ledger):
            return None
        table = pl.read_parquet(file)
        if table.schema != VERIFIED or not table.select(keys).equals(partitions.select(keys)):
            return None
        if not is_whole(paths.ledger):
            return None
        return cls(paths, table, has_same_rules=told.get("rules") == rules)

    def is_same(self, number: int, look: Look) -> bool:
        """Whether the batch of this number has not changed, nor the rules by which rows count."""
        return self._has_same_rules and bool(self._looks[number] == look.digest)

    def files(self, number: int) -> Sequence[str]:
        """The files that the batch had."""
        return list(self._files[number])

    def count(self, number: int) -> BatchCount:
        """What was counted of it."""
        left, waves, width_s, images = self._counts.row(number)
        return BatchCount(
            left={of["server"]: LeftRows(of["pending"], of["retryable"]) for of in left},
            waves={of.pop("wave"): WaveImages(**of) for of in map(dict, waves)},
            timeline=Timeline(width_s, {of["second"]: of["images"] for of in images}),
        )

    def rows(self, first: int, last: int) -> Iterator[pl.DataFrame]:
        """The ledger rows of the batches from number `first` to `last`, in pieces."""
        start, end = self._starts[first], self._starts[last + 1]
        while start < end:
            begin, block = self._block_at(start)
            piece = block.slice(start - begin, end - start)
            yield piece
            start += len(piece)

    def _block_at(self, row: int) -> tuple[int, pl.DataFrame]:
        """The block with that row, and where it begins; blocks are read one after the other."""
        begin = row // BLOCK_ROWS * BLOCK_ROWS
        if self._block is None or self._block[0] != begin:
            self._block = (begin, self._ledger.slice(begin, BLOCK_ROWS).collect())
        return self._block


def _identity(ledger: Path) -> str:
    return json.dumps(_facts(ledger.stat()))


class Notes:
    """Collects what this count sees, for the next one."""

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []

    def add(self, batch: Batch, rows: int, look: Look, count: BatchCount) -> None:
        """One batch, in the order of partitions.parquet."""
        self._records.append(
            {
                "server_name": batch.server_name,
                "partition_id": batch.partition_id,
                "rows": rows,
                "look": look.digest,
                "files": look.files,
                "left": _structs("server", count.left, ("pending", "retryable")),
                "waves": _structs("wave", count.waves, ("images", "first", "last", "unchanged")),
                "width_s": count.timeline.width_s,
                "images": [
                    {"second": second, "images": images}
                    for second, images in count.timeline.images.items()
                ],
            }
        )

    def write(self, paths: OutputPaths, rules: str) -> None:
        """Once the ledger that they were counted for stands."""
        with whole_file(paths.verified) as beside:
            told = {"rules": rules, "ledger": _identity(paths.ledger)}
            write_sealed(beside, pl.DataFrame(self._records, VERIFIED), told)


def _structs(key: str, of: Mapping[Any, Any], fields: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {key: name, **{field: getattr(value, field) for field in fields}}
        for name, value in of.items()
    ]
