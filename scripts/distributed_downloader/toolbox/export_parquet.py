"""Parquet shards, the images in a binary column, for Hugging Face datasets and polars."""

from distributed_downloader.exports.parquet_shards import ROW_GROUP_BYTES, write_parquet_shard
from distributed_downloader.exports.records import with_records
from distributed_downloader.exports.shards import ShardFormat
from distributed_downloader.toolbox.exporting import ExportFilter, ExportRunner
from distributed_downloader.tools.registry import FilterRegister, RunnerRegister, SchedulerRegister
from distributed_downloader.tools.schedulers import DefaultScheduler

NAME = "export_parquet"

FilterRegister(NAME)(ExportFilter)
SchedulerRegister(NAME)(DefaultScheduler)


@RunnerRegister(NAME)
class ParquetShards(ExportRunner):
    """Writes `data/<server>-<partition>-<k>.parquet` and `data/shards.json`."""

    form = ShardFormat("parquet", write_parquet_shard, with_records, block_bytes=ROW_GROUP_BYTES)
