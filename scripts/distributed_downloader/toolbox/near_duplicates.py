"""A perceptual hash for every image, and groups of those that look alike.

`table/<partition>/rows.parquet`: uuid, phash (16 hex digits), contrast; `groups.parquet`: see
`likeness.groups`, with what was removed. The main image of a group is the one whose original has
most pixels, of equals the first. Nothing is removed unless `near_remove` says so: then the main
images stay, and `snakemake restore` brings the others back. The distance may be changed without
looking at an image again.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader.durable import crash_point, write_parquet
from distributed_downloader.likeness.groups import LIKENESSES, groups_of
from distributed_downloader.likeness.perceptual import likeness_of
from distributed_downloader.paths import Batch
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.tools.filters import PARTITION, PythonFilterToolBase, named
from distributed_downloader.tools.partition import StoredImage
from distributed_downloader.tools.registry import FilterRegister, RunnerRegister, SchedulerRegister
from distributed_downloader.tools.removal import RemovalRunner
from distributed_downloader.tools.runners import SEEN, ImageRunner
from distributed_downloader.tools.schedulers import DefaultScheduler

log = logging.getLogger(__name__)

NAME = "near_duplicates"
_PIXELS = pl.col("original_size").cast(pl.List(pl.Int64)).list.agg(pl.element().product())
_NO_LIKENESS = pl.DataFrame(schema={**LIKENESSES, "pixels": pl.Int64})

FilterRegister(NAME)(PythonFilterToolBase)
SchedulerRegister(NAME)(DefaultScheduler)


@RunnerRegister(NAME)
class NearDuplicates(ImageRunner, RemovalRunner):
    """Hashes each image; then groups all hashes."""

    reason = "looks like another image"
    finish_depends_on = ("near_distance", "near_remove")

    @property
    def results_place(self) -> str:
        """The groups."""
        return str(self.folder / "groups.parquet")

    def process_image(self, image: StoredImage) -> Mapping[str, Any]:
        """What the image looks like."""
        return asdict(likeness_of(image.image))

    def seen(self, look: BatchFiles, picked: pl.DataFrame) -> pl.LazyFrame:
        """What it removed was hashed, too: its own removals give nothing to do."""
        own = look.removed().filter(tool=self.filter_name).select(SEEN)
        return pl.concat([super().seen(look, picked), own])

    def finish(self, batches: list[Batch]) -> None:
        """Write groups.parquet, then remove what it says."""
        images = pl.concat([_NO_LIKENESS, *map(self._likenesses, batches)])
        best_first = images.sort("pixels", descending=True, nulls_last=True, maintain_order=True)
        groups = groups_of(best_first.drop("pixels"), int(self.parameters["near_distance"]))
        leaves = (pl.col("uuid") != pl.col("uuid_main")) & bool(self.parameters["near_remove"])
        groups = groups.with_columns(removed=leaves)
        file = Path(self.results_place)
        write_parquet(file, pl.concat([groups, *self._removed_before(file)]))
        crash_point("near:before_removal")
        self._remove(groups.filter("removed"))
        mains = groups["uuid_main"].n_unique()
        log.info("%s: %d images in %d groups", NAME, len(groups), mains)

    def _likenesses(self, batch: Batch) -> pl.DataFrame:
        """Of the images that are there, in the order of their table."""
        hashes = pl.scan_parquet(self.table_file(batch), hive_partitioning=False, glob=False)
        look = BatchFiles.of(self.paths.batch_images(batch))
        images = look.images().select("uuid", pixels=_PIXELS)
        table = hashes.join(images, on="uuid", maintain_order="left").with_columns(named(batch))
        return pl.concat([_NO_LIKENESS.lazy(), table], how="diagonal").collect()

    def _removed_before(self, file: Path) -> Iterator[pl.DataFrame]:
        """Rows of an earlier groups.parquet: their images are not back."""
        if not file.exists():
            return
        rows = pl.read_parquet(file).filter(pl.col("removed"))
        for (server, number), of_batch in rows.group_by(*PARTITION, maintain_order=True):
            batch = Batch(str(server), int(str(number)))
            removed = BatchFiles.of(self.paths.batch_images(batch)).removed()
            mine = removed.filter(tool=self.filter_name).select("uuid").collect()
            yield of_batch.join(mine, on="uuid", how="semi", maintain_order="left")

    def _remove(self, images: pl.DataFrame) -> None:
        which = images.with_columns(reason=pl.lit(self.reason))
        for (server, number), rows in which.group_by(*PARTITION, maintain_order=True):
            self.remove(Batch(str(server), int(str(number))), rows.select("uuid", "reason"))
