"""Plain image files in folders, with a metadata.jsonl in each."""

from typing import ClassVar

from distributed_downloader.exports.blocks import sizes_of
from distributed_downloader.exports.image_folders import write_folder
from distributed_downloader.exports.records import with_json
from distributed_downloader.exports.shards import PartitionImages, Shard, content_of
from distributed_downloader.exports.targets import folder_name
from distributed_downloader.toolbox.exporting import ExportFilter, ExportRunner, target_of
from distributed_downloader.tools.registry import FilterRegister, RunnerRegister, SchedulerRegister
from distributed_downloader.tools.schedulers import DefaultScheduler

NAME = "export_files"

FilterRegister(NAME)(ExportFilter)
SchedulerRegister(NAME)(DefaultScheduler)


@RunnerRegister(NAME)
class ImageFolders(ExportRunner):
    """Writes `data/<server>/<partition>/<uuid>.jpg`, a partition's folder all at once."""

    depends_on: ClassVar[tuple[str, ...]] = ("export_target", "export_resized")

    def export(self, images: PartitionImages) -> int:
        """The partition's folder, in place of an older one."""
        rows = sizes_of(images.folder, images.rows)
        name = folder_name(images.batch)
        count = write_folder(target_of(self), name, images.blocks(rows, with_json))
        size = int(rows["bytes"].sum())
        self.notes.write(images.batch, [Shard(name, count, size, content_of(rows))])
        return count
