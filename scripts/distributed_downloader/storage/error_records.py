"""What several errors of one row come to.

1. The newest counts. `waves_tried` is the number of different waves that ended with a retryable
   failure of it; waves that its parts carried in are among them. `retry_count` is the number of
   all requests but the first.
2. A redirect to another group costs nothing. After MAX_REDIRECTS such waves in a row it is taken
   for a loop, and final.
"""

import polars as pl

from distributed_downloader.records import CONTENT_CODE, ErrorClass
from distributed_downloader.tables import ERRORS

MAX_REDIRECTS = 5
ELSEWHERE = ErrorClass.REDIRECT_ELSEWHERE.value


def merge_errors(records: pl.LazyFrame) -> pl.LazyFrame:
    """One error for each row of several records of it: the rules above."""
    records = records.select(ERRORS.names())
    single = records.filter(pl.col("uuid").is_unique())
    merged = pl.concat([single, _merged(records.filter(pl.col("uuid").is_duplicated()))])
    return _redirects_that_end(merged.with_columns(pl.col("retry_count").clip(0)))


def _merged(records: pl.LazyFrame) -> pl.LazyFrame:
    # Each record says how many waves there were up to its own, with its own if that counts. The
    # rows of a wave that was started again were planned anew, and say one too many the second
    # time: of the records that count for one wave, the smallest is right.
    smallest = pl.col("waves_tried").min().over("uuid", "tried_wave")
    up_to = pl.when(pl.col("tried_wave").is_null()).then("waves_tried").otherwise(smallest)
    ordered = records.with_columns(up_to.alias("waves_tried"))
    ordered = ordered.sort("wave", "fetched_at", maintain_order=True)
    led_elsewhere = (pl.col("redirects") > 0).cast(pl.Int32)  # also a row that ended as a loop
    is_elsewhere_until_the_end = led_elsewhere.reverse().cum_min().reverse()
    merged = ordered.group_by("uuid", maintain_order=True).agg(
        pl.exclude("retry_count", "waves_tried", "tried_wave", "redirects").last(),
        (pl.col("retry_count") + 1).sum().sub(1).cast(pl.Int32).alias("retry_count"),
        pl.col("waves_tried", "tried_wave").max(),
        (pl.col("redirects") * is_elsewhere_until_the_end).sum().cast(pl.Int32),
    )
    return merged.select(ERRORS.names())


def _redirects_that_end(errors: pl.LazyFrame) -> pl.LazyFrame:
    loops = (pl.col("error_class") == ELSEWHERE) & (pl.col("redirects") >= MAX_REDIRECTS)
    message = f"led to another group in {MAX_REDIRECTS} waves, the last time to "
    return errors.with_columns(
        error_class=pl.when(loops)
        .then(pl.lit(ErrorClass.REDIRECT_LOOP.value))
        .otherwise("error_class"),
        error_code=pl.when(loops).then(CONTENT_CODE).otherwise("error_code").cast(pl.Int32),
        error_msg=pl.when(loops)
        .then(message + pl.col("final_url").fill_null("?"))
        .otherwise("error_msg"),
        retryable=pl.col("retryable") & ~loops,
    )
