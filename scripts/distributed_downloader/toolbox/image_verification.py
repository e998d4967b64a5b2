"""Decodes every stored image, and checks its hash and its size; corrupted ones go.

They are listed with the reason in `corrupted/<rank>.csv`, and are fetched again by the next run.
"""

import csv
import os
from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from distributed_downloader.codec.images import encode
from distributed_downloader.errors import ToolError
from distributed_downloader.records import ErrorClass, Failed
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.tools.filters import FilterRegister, PythonFilterToolBase
from distributed_downloader.tools.partition import Partition, StoredImage
from distributed_downloader.tools.removal import RemovalRunner
from distributed_downloader.tools.runners import SEEN, RunnerRegister
from distributed_downloader.tools.schedulers import DefaultScheduler, SchedulerRegister
from distributed_downloader.tools.threads import mapped

NAME = "image_verification"
COLUMNS = ("uuid", "source_id", "server_name", "partition_id", "reason")

Corrupted = tuple[StoredImage, str]  # with the reason


@FilterRegister(NAME)
class EveryImage(PythonFilterToolBase):
    """Picks every image."""


@SchedulerRegister(NAME)
class Scheduler(DefaultScheduler):
    """As every tool."""


@RunnerRegister(NAME)
class Verification(RemovalRunner):
    """Looks at each image, and removes the corrupted ones."""

    refetch = True

    def process(self, partition: Partition) -> int:
        """Verify one partition."""
        found = list(self._corrupted(partition))
        if found:
            self._list(partition, found)
            rows = [(image.uuid, reason) for image, reason in found]
            which = pl.DataFrame(rows, {"uuid": pl.String, "reason": pl.String}, orient="row")
            self.remove(partition.batch, which)
        return len(partition.rows)

    def seen(self, look: BatchFiles, picked: pl.DataFrame) -> pl.LazyFrame:  # noqa: ARG002
        """What was ever stored here: a removal gives nothing to verify."""
        return pl.concat([look.images().select(SEEN), look.removed().select(SEEN)])

    def _corrupted(self, partition: Partition) -> Iterator[Corrupted]:
        def verified(image: StoredImage) -> tuple[StoredImage, str | None]:
            return image, self.problem(image)

        images = partition.images()
        for image, reason in mapped(verified, images, self.parameters["cpu_per_worker"]):
            if reason:
                yield image, reason

    def problem(self, image: StoredImage) -> str | None:
        """Why the image is corrupted; None: it is whole."""
        row = image.row
        looked_at = encode(image.bytes, replace(self.settings.images, image_size=0))
        if isinstance(looked_at, Failed):
            if looked_at.error_class is ErrorClass.INTERNAL:  # no memory: not the image's fault
                raise ToolError(f"{image.uuid}: {looked_at.error_msg}")
            return "cannot be decoded"
        if looked_at.hashsum_resized != row["hashsum_resized"]:
            return "other bytes than were stored"
        if list(looked_at.original_size) != list(row["resized_size"]):
            return "other size than was stored"
        return None

    def _list(self, partition: Partition, found: list[Corrupted]) -> None:
        file = self.folder / "corrupted" / f"{self.job.world.rank}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines, lineterminator="\n")
            if lines.tell() == 0:
                writer.writerow(COLUMNS)
            batch = partition.batch
            for image, reason in found:
                place = (batch.server_name, batch.partition_id, reason)
                writer.writerow((image.uuid, image.row["source_id"], *place))
            lines.flush()
            os.fsync(lines.fileno())
