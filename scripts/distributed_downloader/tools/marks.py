"""What a tool has done: a mark for each partition, with the hash of the table it saw.

`verification/<rank>.csv` is only appended to, after the partition is safe. A line that a kill cut
short is skipped, and the next begins on a line of its own. Of several marks the latest counts; a
mark is later than those before it whatever the clock of its node says.
"""

import csv
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader.durable import crash_point
from distributed_downloader.paths import Batch

FINISHED_NAME = "finished.json"  # beside the marks: which of them the tool's end has seen
COLUMNS = ("server_name", "partition_id", "table", "images", "finished")
_TICK_S = 1e-6  # as finely as times are written


@dataclass(frozen=True, slots=True)
class Mark:
    """One partition that is done."""

    table: str  # hash of what the tool saw
    images: int
    finished: float  # unix seconds


class Marks:
    """The marks of one tool."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now
        self._known: dict[Batch, Mark] | None = None  # before the first that is appended here

    def read(self) -> dict[Batch, Mark]:
        """The latest mark of each partition."""
        found: dict[Batch, Mark] = {}
        for file in sorted(self._folder.glob("*.csv")):
            for batch, mark in _lines(file):
                if batch not in found or mark.finished >= found[batch].finished:
                    found[batch] = mark
        return found

    def append(self, rank: int, batch: Batch, table: str, images: int) -> None:
        """Note that the partition is done, durably."""
        self._folder.mkdir(parents=True, exist_ok=True)
        finished = self._later_than_known(batch)
        values = (batch.server_name, batch.partition_id, table, images, f"{finished:.6f}")
        crash_point("tool:before_mark")
        with (self._folder / f"{rank}.csv").open("a+", newline="", encoding="utf-8") as file:
            if file.tell() == 0:
                csv.writer(file, lineterminator="\n").writerow(COLUMNS)
            elif not _ends_a_line(file.name):
                file.write("\n")
            csv.writer(file, lineterminator="\n").writerow(values)
            file.flush()
            os.fsync(file.fileno())
        self._before()[batch] = Mark(table, images, finished)
        crash_point("tool:after_mark")

    def _later_than_known(self, batch: Batch) -> float:
        known = self._before().get(batch)
        return self._now() if known is None else max(self._now(), known.finished + _TICK_S)

    def _before(self) -> dict[Batch, Mark]:
        """Read once: other ranks of the same job are at other partitions."""
        if self._known is None:
            self._known = self.read()
        return self._known

    def forget(self) -> None:
        """Have the tool do everything again."""
        shutil.rmtree(self._folder, ignore_errors=True)
        (self._folder.parent / FINISHED_NAME).unlink(missing_ok=True)
        self._known = None


def _ends_a_line(name: str) -> bool:
    with Path(name).open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _lines(file: Path) -> list[tuple[Batch, Mark]]:
    found = []
    with file.open(newline="", encoding="utf-8", errors="replace") as lines:
        for values in csv.reader(lines):
            try:
                server, number, table, images, finished = values
                mark = Mark(table, int(images), float(finished))
                found.append((Batch(server, int(number)), mark))
            except ValueError:  # the header, or what a kill left of a line
                continue
    return found


def hash_of(rows: pl.LazyFrame, parameters: Mapping[str, Any]) -> str:
    """What these images are, whatever their order or place, and by which settings they are taken.

    `rows` has at least uuid, hashsum_resized and fetched_at.
    """
    when = pl.col("fetched_at").dt.epoch("us").cast(pl.String)
    line = pl.concat_str(["uuid", "hashsum_resized", when], separator=" ", ignore_nulls=True)
    text = rows.select(line.sort().str.join("\n")).collect().item()
    said = json.dumps(parameters, sort_keys=True, default=str)
    return hashlib.blake2b(f"{said}\n{text}".encode(), digest_size=16).hexdigest()
