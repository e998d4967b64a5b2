"""`snakemake restore --config tool=<name>`: what a tool removed is put back.

The tool's marks go too, so that it would remove the images again: take it out of `tools` if it
should not.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import polars as pl

from distributed_downloader.errors import ConfigError
from distributed_downloader.paths import Batch, OutputPaths
from distributed_downloader.settings import Settings
from distributed_downloader.storage.batch_files import REMOVED_NAME, BatchFiles
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.storage.removal import Restored, restore_images
from distributed_downloader.tools.marks import Marks


def restore(settings: Settings, tool: str, *, allowed: Callable[[], None]) -> Restored:
    """Undo the removals of a tool in all batches; how many images that were.

    Raises ConfigError if the tool removed nothing, with the tools that did.
    """
    paths = settings.paths
    removed = removals(paths)
    if tool not in removed:
        told = ", ".join(f"{name} ({number:,})" for name, number in sorted(removed.items()))
        asked = f"The tool {tool!r} has removed nothing" if tool else "Say whose removals to undo"
        ways = f"--config tool=<name>, one of {told}" if told else "no tool has removed anything"
        raise ConfigError(f"{asked}: {ways}.")
    Marks(paths.tools / tool / "verification").forget()
    images = lost = 0
    for batch in _with_removals(paths):
        done = restore_images(batch, paths, tool, allowed=allowed)
        images, lost = images + done.images, lost + done.lost
        if done.images:
            rows = pl.scan_parquet(paths.batch_urls(batch), hive_partitioning=False)
            total = int(rows.select(pl.len()).collect().item())
            waves = settings.retries_waves
            consolidate(batch, paths, total, retries_waves=waves, allowed=allowed)
    return Restored(images, lost)


def removals(paths: OutputPaths) -> dict[str, int]:
    """Images that are removed now, by tool."""
    found: Counter[str] = Counter()
    for batch in _with_removals(paths):
        counts = BatchFiles.of(paths.batch_images(batch)).removed().group_by("tool").len()
        found.update(dict(counts.collect().iter_rows()))
    return dict(found)


def _with_removals(paths: OutputPaths) -> Iterator[Batch]:
    tables = paths.images.glob(f"server_name=*/partition_id=*/{REMOVED_NAME}")
    return (Batch.from_folder(table.parent) for table in sorted(tables))
