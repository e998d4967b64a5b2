"""Tar shards with a JSON of each image's row, as the webdataset library reads them."""

from distributed_downloader.exports.records import with_json
from distributed_downloader.exports.shards import ShardFormat
from distributed_downloader.exports.tar_shards import write_tar
from distributed_downloader.toolbox.exporting import ExportFilter, ExportRunner
from distributed_downloader.tools.registry import FilterRegister, RunnerRegister, SchedulerRegister
from distributed_downloader.tools.schedulers import DefaultScheduler

NAME = "export_webdataset"

FilterRegister(NAME)(ExportFilter)
SchedulerRegister(NAME)(DefaultScheduler)


@RunnerRegister(NAME)
class TarShards(ExportRunner):
    """Writes `data/<server>-<partition>-<k>.tar` and `data/shards.json`."""

    form = ShardFormat("tar", write_tar, with_json)
