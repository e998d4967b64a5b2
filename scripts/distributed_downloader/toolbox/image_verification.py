"""Decodes every stored image, and checks its hash and its size; corrupted ones go.

They are listed with the reason in `corrupted/<rank>.csv`, each once, and the next run fetches them
again. Decoders run in processes of their own, as in the download: one that crashes costs its image.
"""

import csv
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import polars as pl

from distributed_downloader.codec.processes import Codec
from distributed_downloader.errors import ToolError
from distributed_downloader.records import ErrorClass, Failed
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.tools.filters import FilterRegister, PythonFilterToolBase
from distributed_downloader.tools.partition import Partition, StoredImage
from distributed_downloader.tools.removal import RemovalRunner
from distributed_downloader.tools.runners import SEEN, RunnerRegister
from distributed_downloader.tools.schedulers import DefaultScheduler, SchedulerRegister
from distributed_downloader.tools.threads import mapped
from distributed_downloader.wording import CLASSES, count

NAME = "image_verification"
COLUMNS = ("uuid", "source_id", "server_name", "partition_id", "reason")
_KEYS = ("uuid", "server_name", "partition_id")
# It was within the limits when it was stored: these are others now, or the machine lacks memory.
_OF_LIMITS = (ErrorClass.TOO_COSTLY, ErrorClass.TOO_MANY_PIXELS, ErrorClass.INTERNAL)

Corrupted = tuple[StoredImage, str]  # with the reason


@FilterRegister(NAME)
class EveryImage(PythonFilterToolBase):
    """Picks every image."""


@SchedulerRegister(NAME)
class Scheduler(DefaultScheduler):
    """As every tool."""


class _NotSeenError(Exception):
    """The image could not be looked at, which says nothing about it."""


@RunnerRegister(NAME)
class Verification(RemovalRunner):
    """Looks at each image, and removes the corrupted ones."""

    refetch = True

    @property
    def results_place(self) -> str:
        """The lists of what is corrupted."""
        return str(self.folder / "corrupted")

    @cached_property
    def codec(self) -> Codec:
        """What decodes for this rank."""
        whole = replace(self.settings.images, image_size=0, keep_original=False)
        return Codec(whole, self.parameters["cpu_per_worker"])

    def close(self) -> None:
        """End the decoders."""
        self.codec.close()

    def process(self, partition: Partition) -> int:
        """Verify one partition. Raises ToolError for images that nobody can look at."""
        not_seen: list[str] = []
        found = list(self._corrupted(partition, not_seen))
        if found:
            self._list(partition, found)
            rows = [(image.uuid, reason) for image, reason in found]
            which = pl.DataFrame(rows, {"uuid": pl.String, "reason": pl.String}, orient="row")
            self.remove(partition.batch, which)
        if not_seen:
            raise ToolError(
                f"{count(len(not_seen), 'image')} cannot be looked at ({not_seen[0]}); the others "
                "are verified."
            )
        return len(partition.rows)

    def seen(self, look: BatchFiles, picked: pl.DataFrame) -> pl.LazyFrame:  # noqa: ARG002
        """What was ever stored here: a removal gives nothing to verify."""
        return pl.concat([look.images().select(SEEN), look.removed().select(SEEN)])

    def _corrupted(self, partition: Partition, not_seen: list[str]) -> Iterator[Corrupted]:
        codec = self.codec

        def verified(image: StoredImage) -> tuple[StoredImage, str | None]:
            try:
                return image, _problem(image, codec)
            except _NotSeenError as error:
                not_seen.append(f"{image.uuid}: {error}")
                return image, None

        images = partition.images()
        for image, reason in mapped(verified, images, self.parameters["cpu_per_worker"]):
            if reason:
                yield image, reason

    @cached_property
    def _listed_before(self) -> set[tuple[str, ...]]:
        """What the lists of all ranks have; in this job the others are at other partitions.

        A kill between a list and its removal leaves images there that are found again.
        """
        found = set()
        for file in Path(self.results_place).glob("*.csv"):
            with file.open(newline="", encoding="utf-8", errors="replace") as lines:
                rows = csv.DictReader(lines)
                found |= {tuple(str(row[name]) for name in _KEYS) for row in rows}
        return found

    def _list(self, partition: Partition, found: list[Corrupted]) -> None:
        file = Path(self.results_place, f"{self.job.world.rank}.csv")
        file.parent.mkdir(parents=True, exist_ok=True)
        listed = self._listed_before
        with file.open("a", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines, lineterminator="\n")
            if lines.tell() == 0:
                writer.writerow(COLUMNS)
            place = (partition.batch.server_name, str(partition.batch.partition_id))
            for image, reason in found:
                if (image.uuid, *place) not in listed:
                    writer.writerow((image.uuid, image.row["source_id"], *place, reason))
            lines.flush()
            os.fsync(lines.fileno())


def _problem(image: StoredImage, codec: Codec) -> str | None:
    """Why the image is corrupted; None: it is whole."""
    if not image.is_intact:
        return "other bytes than were stored"
    looked_at = codec.encode_here(image.bytes)
    if isinstance(looked_at, Failed):
        return _reason(looked_at)
    if list(looked_at.original_size) != list(image.row["resized_size"]):
        return "other size than was stored"
    return None


def _reason(failed: Failed) -> str:
    """Of the same words for all images: the summary counts by them. Raises _NotSeenError."""
    is_killed = failed.error_class is ErrorClass.DECODER_CRASHED and failed.retryable
    if is_killed or failed.error_class in _OF_LIMITS:
        raise _NotSeenError(failed.error_msg)
    if failed.error_class is ErrorClass.DECODER_CRASHED:
        return CLASSES[failed.error_class]
    return "cannot be decoded"
