"""`snakemake restore --config tool=<name>`: what a tool removed is put back.

The tool's marks go too, so that it would remove the images again: take it out of `tools` if it
should not. What others than tools took out stays out: `OTHERS`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import polars as pl

from distributed_downloader.errors import ConfigError
from distributed_downloader.lists.generations import rows_by_batch
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.settings import Settings
from distributed_downloader.storage.batch_files import REMOVED_NAME, BatchFiles
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.storage.removal import Restored, restore_images
from distributed_downloader.tools.marks import Marks

OTHERS = {  # who else is in removed.parquet, and why what they took out stays out
    "verify": "it is damaged",
    "list": "the list has its row no more, or with another URL",
}


def restore(settings: Settings, tool: str, *, allowed: Callable[[], None]) -> Restored:
    """Undo the removals of a tool in all batches; how many images that were.

    Raises ConfigError if the tool removed nothing, with the tools that did.
    """
    paths = settings.paths
    removed = removals(paths)
    if tool not in removed:
        raise _nothing_of(tool, removed)
    rows, waves = rows_by_batch(paths), settings.retries_waves
    Marks(paths.tools / tool / "verification").forget()
    images = lost = 0
    for batch in _with_removals(paths):
        done = restore_images(batch, paths, tool, allowed=allowed)
        images, lost = images + done.images, lost + done.lost
        if done.images:
            total = rows.get(batch, 0)
            consolidate(batch, paths, total, retries_waves=waves, allowed=allowed)
    return Restored(images, lost)


def _nothing_of(tool: str, removed: Mapping[str, int]) -> ConfigError:
    asked = f"The tool {tool!r} has removed nothing" if tool else "Say whose removals to undo"
    if tool in OTHERS:
        asked = f"An image that {tool!r} took out cannot be restored ({OTHERS[tool]})"
    told = ", ".join(f"{name} ({number:,})" for name, number in sorted(removed.items()))
    ways = f"--config tool=<name>, one of {told}" if told else "no tool has removed anything"
    return ConfigError(f"{asked}: {ways}.")


def removals(paths: OutputPaths) -> dict[str, int]:
    """Images that are removed now, by the tool that may be asked to be undone."""
    found: Counter[str] = Counter()
    of_tools = ~pl.col("tool").is_in(list(OTHERS))
    for batch in _with_removals(paths):
        rows = BatchFiles.of(paths.batch_images(batch)).removed().filter(of_tools)
        counts = rows.group_by("tool").len()
        found.update(dict(counts.collect().iter_rows()))
    return dict(found)


def _with_removals(paths: OutputPaths) -> Iterator[Batch]:
    tables = paths.images.glob(f"server_name=*/partition_id=*/{REMOVED_NAME}")
    return (Batch.from_folder(table.parent) for table in sorted(tables))
