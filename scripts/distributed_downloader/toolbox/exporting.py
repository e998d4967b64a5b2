"""What all exports have in common: every image, shards that stay, an index at the end.

No tool by itself.
"""

import hashlib
import logging
from pathlib import Path
from typing import ClassVar

import polars as pl

from distributed_downloader.errors import ToolError
from distributed_downloader.exports.shards import (
    Notes,
    PartitionImages,
    ShardFormat,
    write_index,
    write_shards,
)
from distributed_downloader.exports.targets import Target
from distributed_downloader.paths import Batch
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.tools.base import ToolsBase
from distributed_downloader.tools.filters import PythonFilterToolBase
from distributed_downloader.tools.partition import Partition
from distributed_downloader.tools.runners import MPIRunnerTool
from distributed_downloader.wording import count

log = logging.getLogger(__name__)

DATA = "data"  # where exports lie in the tool's folder, unless there is an export_target


def target_of(tool: ToolsBase) -> Target:
    """Where the tool's export goes. Raises ConfigError for an address that is none."""
    given = str(tool.parameters["export_target"])
    return Target(f"{given.rstrip('/')}/{tool.filter_name}" if given else tool.folder / DATA)


def resized_folder(tool: ToolsBase) -> Path | None:
    """Where the images lie that the tool resize made, if those are what is exported."""
    parameters = tool.parameters
    if not parameters["export_resized"] or parameters["resize_in_place"]:
        return None
    return tool.paths.tools / "resize" / "images"


class ExportFilter(PythonFilterToolBase):
    """Picks every image; says at once when there is nowhere to export to."""

    def run(self) -> None:
        """Write the filter table."""
        target_of(self)
        super().run()


class ExportRunner(MPIRunnerTool):
    """Writes each partition as files of its own."""

    depends_on: ClassVar[tuple[str, ...]] = (
        "export_target",
        "export_resized",
        "export_shard_bytes",
    )
    form: ClassVar[ShardFormat]

    @property
    def notes(self) -> Notes:
        """What lies in the target; each address has its own."""
        address = target_of(self).address.encode()
        return Notes(self.folder / "notes" / hashlib.blake2b(address, digest_size=8).hexdigest())

    @property
    def results_place(self) -> str:
        """The target's address."""
        return target_of(self).address

    def seen(self, look: BatchFiles, picked: pl.DataFrame) -> pl.LazyFrame:
        """The stored images, and what became of them where that is what is exported."""
        stored, resized = super().seen(look, picked), resized_folder(self)
        if resized is None:
            return stored
        made = BatchFiles.of(resized / Batch.from_folder(look.folder).folder)
        return pl.concat([stored, super().seen(made, picked)])

    def process(self, partition: Partition) -> int:
        """Write what is missing of a partition."""
        taken = self._taken(partition)
        return self.export(PartitionImages(taken.batch, taken.folder, taken.rows, partition.tick))

    def _taken(self, partition: Partition) -> Partition:
        """The stored images, or all of them resized."""
        resized = resized_folder(self)
        if resized is None:
            return partition
        made = Partition(partition.batch, resized / partition.batch.folder, partition.picked)
        missing = partition.rows.join(made.rows, on=["uuid", "fetched_at"], how="anti")
        if len(missing):
            raise ToolError(
                f"{count(len(missing), 'image')} of {len(partition.rows)} are not resized, and "
                "export_resized asks for that: run the tool resize, or name it before this one."
            )
        return made

    def export(self, images: PartitionImages) -> int:
        """The partition's shards."""
        most_bytes = int(self.parameters["export_shard_bytes"])
        return write_shards(self.form, target_of(self), self.notes, images, most_bytes)

    def finish(self, batches: list[Batch]) -> None:
        """Write the index, and remove what is no longer in the dataset."""
        target = target_of(self)
        counts = write_index(target, self.notes, batches)
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        log.info("%s: %s in %s", self.filter_name, told, target.address)
