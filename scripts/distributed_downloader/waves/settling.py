"""The end of a wave, for some batches: parts become shards, and what is left of them is counted."""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import polars as pl

from distributed_downloader.courtesy.ignored import read_ignored
from distributed_downloader.errors import FolderError
from distributed_downloader.paths import Batch
from distributed_downloader.settings import Settings
from distributed_downloader.storage.consolidation import consolidate, is_settled
from distributed_downloader.storage.mending import mend
from distributed_downloader.storage.parts import list_parts
from distributed_downloader.waves.left import LeftRows
from distributed_downloader.waves.worklist import count_left

log = logging.getLogger(__name__)

Rows = Mapping[Batch, int]  # of each batch, in partitions.parquet


def settle_batches(settings: Settings, batches: Rows, allowed: Callable[[], None]) -> None:
    """Consolidate those of the batches that have parts, or that a kill may have left untidy."""
    for batch, rows in batches.items():
        folder = settings.paths.batch_images(batch)
        if is_settled(folder, rows):
            continue
        had_parts = bool(list_parts(folder))
        states = _consolidated(settings, batch, rows, allowed)
        if had_parts:
            words = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            log.info("batch consolidated: %s, %s", batch.folder, words)


def _consolidated(
    settings: Settings, batch: Batch, rows: int, allowed: Callable[[], None]
) -> Mapping[str, int]:
    """Consolidate a batch; what is damaged in it goes out of use, and is left for the next wave."""
    take_in = partial(
        consolidate,
        *(batch, settings.paths, rows),
        retries_waves=settings.retries_waves,
        allowed=allowed,
    )
    try:
        return take_in()
    except (FolderError, FileNotFoundError, pl.exceptions.PolarsError):
        damages = mend(batch, settings.paths, allowed)
        if not damages:
            raise
        for damage in damages:
            log.error("damaged, and out of use: %s", damage)
        return take_in()


def left_of(settings: Settings, batches: Rows) -> dict[str, LeftRows]:
    """Rows left of each group in these batches."""
    ignored = read_ignored(settings.paths.ignored_table)
    return summed(count_left(batch, rows, settings, ignored) for batch, rows in batches.items())


def summed(counts: Iterable[Mapping[str, LeftRows]]) -> dict[str, LeftRows]:
    """What several counted, together."""
    sums: dict[str, LeftRows] = {}
    for count in counts:
        for group, left in count.items():
            sums[group] = sums.get(group, LeftRows()).plus(left)
    return sums
