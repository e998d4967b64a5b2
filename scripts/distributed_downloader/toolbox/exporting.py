"""What all exports have in common: every image, shards that stay, an index at the end.

No tool by itself.
"""

import hashlib
import logging
from typing import ClassVar

from distributed_downloader.exports.shards import (
    Notes,
    PartitionImages,
    ShardFormat,
    write_index,
    write_shards,
)
from distributed_downloader.exports.targets import Target
from distributed_downloader.paths import Batch
from distributed_downloader.tools.base import ToolsBase
from distributed_downloader.tools.filters import PythonFilterToolBase
from distributed_downloader.tools.partition import Partition
from distributed_downloader.tools.runners import MPIRunnerTool

log = logging.getLogger(__name__)

DATA = "data"  # where exports lie in the tool's folder, unless there is an export_target


def target_of(tool: ToolsBase) -> Target:
    """Where the tool's export goes. Raises ConfigError for an address that is none."""
    given = str(tool.parameters["export_target"])
    return Target(f"{given.rstrip('/')}/{tool.filter_name}" if given else tool.folder / DATA)


class ExportFilter(PythonFilterToolBase):
    """Picks every image; says at once when there is nowhere to export to."""

    def run(self) -> None:
        """Write the filter table."""
        target_of(self)
        super().run()


class ExportRunner(MPIRunnerTool):
    """Writes each partition as files of its own."""

    depends_on: ClassVar[tuple[str, ...]] = ("export_target", "export_shard_bytes")
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

    def process(self, partition: Partition) -> int:
        """Write what is missing of a partition."""
        images = PartitionImages(partition.batch, partition.folder, partition.rows, partition.tick)
        return self.export(images)

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
