"""A perceptual hash for every image, and groups of those that look alike. Nothing is removed.

`table/<partition>/rows.parquet`: uuid, phash (16 hex digits), contrast; `groups.parquet`: see
`likeness.groups`. The distance may be changed without looking at an image again.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from distributed_downloader.durable import write_parquet
from distributed_downloader.likeness.groups import LIKENESSES, groups_of
from distributed_downloader.likeness.perceptual import likeness_of
from distributed_downloader.paths import Batch
from distributed_downloader.tools.filters import PythonFilterToolBase, named
from distributed_downloader.tools.partition import StoredImage
from distributed_downloader.tools.registry import FilterRegister, RunnerRegister, SchedulerRegister
from distributed_downloader.tools.runners import ImageRunner
from distributed_downloader.tools.schedulers import DefaultScheduler

log = logging.getLogger(__name__)

NAME = "near_duplicates"

FilterRegister(NAME)(PythonFilterToolBase)
SchedulerRegister(NAME)(DefaultScheduler)


@RunnerRegister(NAME)
class NearDuplicates(ImageRunner):
    """Hashes each image; then groups all hashes."""

    finish_depends_on = ("near_distance",)

    def process_image(self, image: StoredImage) -> Mapping[str, Any]:
        """What the image looks like."""
        return asdict(likeness_of(image.image))

    def finish(self, batches: list[Batch]) -> None:
        """Write groups.parquet."""
        tables = [self._likenesses(batch) for batch in batches]
        distance = int(self.parameters["near_distance"])
        groups = groups_of(pl.concat([LIKENESSES.to_frame(), *tables], how="diagonal"), distance)
        write_parquet(self.folder / "groups.parquet", groups)
        mains = groups["uuid_main"].n_unique()
        log.info("%s: %d images in %d groups", NAME, len(groups), mains)

    def _likenesses(self, batch: Batch) -> pl.DataFrame:
        table = pl.scan_parquet(self.table_file(batch), hive_partitioning=False, glob=False)
        return table.with_columns(named(batch)).collect()
