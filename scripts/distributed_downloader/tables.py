"""The columns of the tables that pass between stages: one place, read by everyone.

Times are UTC with microseconds; sizes are [height, width] in pixels; hashes are MD5 in hex.
"""

import polars as pl

Column = pl.DataType | type[pl.DataType]

TIME = pl.Datetime("us", "UTC")
SIZE = pl.List(pl.Int32)


def _schema(columns: dict[str, Column]) -> pl.Schema:
    return pl.Schema(columns)


PARTITIONS = _schema({"server_name": pl.String, "partition_id": pl.Int64, "rows": pl.Int64})

EXPECTED_HASH = "expected_hash"  # in URLS too, if the list has hashes (`columns.hash`)

URLS = _schema(  # further input columns follow, unchanged
    {
        "uuid": pl.String,
        "source_id": pl.String,
        "identifier": pl.String,
        "server": pl.String,
        "license": pl.String,
        "source": pl.String,
        "title": pl.String,
    }
)

DUPLICATES = _schema({"uuid": pl.String, "uuid_main": pl.String, "source_id": pl.String})

TOMBSTONES = _schema(
    {
        "uuid": pl.String,
        "source_id": pl.String,
        "identifier": pl.String,
        "server": pl.String,
        "server_name": pl.String,  # with partition_id the batch in which its image lies, if any
        "partition_id": pl.Int64,
        "reason": pl.String,  # gone, or url_changed: the list has its uuid with another URL
        "generation": pl.Int64,  # of the list that says so
    }
)

SUCCESSES = _schema(
    {
        "uuid": pl.String,
        "source_id": pl.String,
        "identifier": pl.String,
        "server": pl.String,
        "is_license_full": pl.Boolean,
        "license": pl.String,
        "source": pl.String,
        "title": pl.String,
        "hashsum_original": pl.String,
        "hashsum_resized": pl.String,
        "original_size": SIZE,
        "resized_size": SIZE,
        "file": pl.String,  # the shard (or part/images.h5) in the batch's folder
        "index": pl.Int64,  # row of its offsets, from 0
        "final_url": pl.String,
        "content_type": pl.String,
        "etag": pl.String,
        "last_modified": pl.String,
        "fetched_at": TIME,
        "exif": pl.String,
        "warnings": pl.String,  # of its decoder; null nearly always
        "wave": pl.Int32,  # -1: fetched as a sample by profile; -2: copied from another folder
        "validated_at": TIME,  # when its server last said that it is still the same
        "asked_wave": pl.Int32,  # the last wave that asked for it again, whatever that brought
    }
)

ERRORS = _schema(
    {
        "uuid": pl.String,
        "source_id": pl.String,
        "identifier": pl.String,
        "server": pl.String,
        "retry_count": pl.Int32,  # requests spent on the row beyond the first, over all waves
        "error_code": pl.Int32,
        "error_class": pl.String,
        "error_msg": pl.String,
        "retryable": pl.Boolean,
        "final_url": pl.String,
        "fetched_at": TIME,
        "waves_tried": pl.Int32,  # waves that ended with a retryable failure of this row
        "tried_wave": pl.Int32,  # the last of those waves; null if none
        "redirects": pl.Int32,  # waves in a row that only led to another group
        "wave": pl.Int32,
    }
)

REMOVED = _schema({**SUCCESSES, "tool": pl.String, "reason": pl.String, "refetch": pl.Boolean})

PART_ROWS = _schema({**SUCCESSES, **ERRORS})  # an image row has no error_class, and vice versa

CREDITS = _schema(  # one row an image
    {
        "uuid": pl.String,
        "creator": pl.String,
        "rights_holder": pl.String,
        "publisher": pl.String,
        "license": pl.String,  # as the list says it
        "license_class": pl.String,
        "source_url": pl.String,
        "reference": pl.String,
        "dataset_key": pl.String,
        "server_name": pl.String,
        "partition_id": pl.Int64,
    }
)

CREDITED_DATASETS = _schema(
    {"dataset_key": pl.String, "images": pl.Int64, "license_classes": pl.String}
)

PROFILES = _schema(
    {
        "server_name": pl.String,
        "group": pl.String,
        "total_batches": pl.Int64,
        "total_rows": pl.Int64,
        "success_count": pl.Int64,
        "error_count": pl.Int64,
        "rate_limit": pl.Float64,  # requests per second: the smaller of the next two, or edited
        "configured_limit": pl.Float64,  # what the config said when it was measured
        "measured_limit": pl.Float64,  # what the server asks for or can carry; null: no such limit
        "latency_s": pl.Float64,  # median until the headers, of the samples that brought an image
        "mean_bytes": pl.Float64,
        "crawl_delay_s": pl.Float64,
        "disallowed_count": pl.Int64,  # samples that robots.txt refuses
        "opted_out_count": pl.Int64,  # samples whose headers say no
    }
)

SCHEDULE = _schema(
    {
        "rank": pl.Int32,
        "server_name": pl.String,
        "partition_id": pl.Int64,
        "group": pl.String,
        "rate_limit": pl.Float64,
        "rows": pl.Int64,  # left, when it was planned
        "servers": pl.List(pl.String),  # to be asked for them: other ones where redirects led
    }
)

LEARNED = _schema(  # one row per group that the wave asked
    {
        "group": pl.String,
        "rank": pl.Int32,
        "limit": pl.Float64,  # requests per second that held
        "rate": pl.Float64,  # learned rate at the wave's end
        "proven_rate": pl.Float64,
        "refused_rate": pl.Float64,
        "blocked_until": pl.Float64,  # unix seconds, 0 = free
        "block_s": pl.Float64,
        "block_cause": pl.String,
        "requests": pl.Int64,
        "images": pl.Int64,
        "refusals": pl.Int64,  # 429 and 503
        "blocks": pl.Int64,
        "peak_1s": pl.Int64,  # most requests in any window of one second
        "peak_10s": pl.Int64,
        "burst": pl.Int64,
        "bytes": pl.Int64,
        "latency_s": pl.Float64,
        "mean_bytes": pl.Float64,
        "last_request": pl.Float64,  # unix seconds
    }
)

LEDGER = _schema(
    {
        "uuid": pl.String,
        "source_id": pl.String,
        "server": pl.String,
        "server_name": pl.String,  # null for rejected and duplicate rows
        "partition_id": pl.Int64,
        "state": pl.String,
        "error_class": pl.String,
        "error_code": pl.Int32,
    }
)
