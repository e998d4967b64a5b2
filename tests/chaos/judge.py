"""What must hold after each round, read from the files and from the servers' own log.

The files are judged on a copy: the next run must find them as the kill left them.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.errors import DownloaderError
from distributed_downloader.fleet.judge import exceeds, times_by
from distributed_downloader.paths import OutputPaths
from distributed_downloader.records import FINAL_STATES
from distributed_downloader.running.begin import settings_for
from distributed_downloader.storage.dataset import Dataset
from tests.chaos.modes import Words

FINAL = [state.value for state in FINAL_STATES]
OK = "ok"


@dataclass
class Files:
    """What the output folder says at one moment."""

    states: dict[str, int] = field(default_factory=dict)
    rows: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(
            schema=dict.fromkeys(("uuid", "state", "error_class", "url"), pl.String)
        )
    )
    faults: list[str] = field(default_factory=list)

    def urls(self, *states: str) -> set[str]:
        """Of the rows in these states."""
        return set(self.rows.filter(pl.col("state").is_in(states))["url"])


def look(config: dict[str, Any], scratch: Path, rows: int) -> Files:
    """Read a folder, whatever was killed in it; nothing of it is changed."""
    folder = Path(config["path_to_output"])
    if not OutputPaths.of(folder).partitions.exists():
        return Files()
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder, scratch)
    paths = OutputPaths.of(scratch)
    try:
        summary = verify_dataset(settings_for({**config, "path_to_output": str(scratch)}))
        found = Files(summary["states"], _rows(paths))
        found.faults += _sums(summary["states"], rows)
        found.faults += _images(scratch, found)
    except DownloaderError as error:
        return Files(faults=[str(error)])
    return found


def _rows(paths: OutputPaths) -> pl.DataFrame:
    lists = paths.urls.glob("server_name=*/partition_id=*/urls.parquet")
    urls = [pl.read_parquet(file, hive_partitioning=False) for file in lists]
    table = pl.concat(urls).select("uuid", url="identifier")
    ledger = pl.read_parquet(paths.ledger).select("uuid", "state", "error_class")
    return ledger.join(table, on="uuid")


def _sums(states: dict[str, int], rows: int) -> Iterator[str]:
    if sum(states.values()) != rows:
        yield f"the states of {rows} rows add up to {sum(states.values())}"


def _images(folder: Path, found: Files) -> Iterator[str]:
    """Every image once, as its hash says, and it decodes."""
    if not OutputPaths.of(folder).images.is_dir():
        return
    with Dataset(folder) as dataset:
        uuids = [record.uuid for record in dataset]
        if sorted(uuids) != sorted(found.rows.filter(state=OK)["uuid"]):
            yield f"{len(uuids)} images for {found.states[OK]} rows that are ok"
        for record in dataset:
            if hashlib.md5(record.bytes).hexdigest() != record.row["hashsum_resized"]:
                yield f"the image of {record.uuid} is not what its hash says"
            record.image.load()


def wrong_words(files: Files, words: Mapping[str, Words]) -> Iterator[str]:
    """Final rows that ended otherwise than their mode may."""
    final = files.rows.filter(pl.col("state").is_in(FINAL))
    for url, state, error_class in final.select("url", "state", "error_class").iter_rows():
        word = "" if state == OK else error_class
        if word not in words[url]:
            expected = " or ".join(sorted(words[url])) or "its image"
            yield f"{url} ended with {word or 'an image'}, not with {expected}"


def asked(log: pl.DataFrame) -> pl.DataFrame:
    """Requests for images."""
    return log.filter(pl.col("path") != "/robots.txt")


def impolite(log: pl.DataFrame, rate: float, burst: float) -> Iterator[str]:
    """Hosts that were asked for more than rate x window + burst."""
    for host, times in times_by(log).items():
        for excess in exceeds(times, rate, burst, windows=(1.0, 10.0)):
            yield f"{host} was asked too often: {excess}"
