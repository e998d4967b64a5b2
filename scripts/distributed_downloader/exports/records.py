"""What an export says of an image: the columns of its row that mean something without the dataset.

Sizes are pixels; `fetched_at` is UTC, ISO 8601 in JSON.
"""

import polars as pl

from distributed_downloader.tables import SUCCESSES

_INSIDE = {"file", "index", "wave", "original_size", "resized_size"}

RECORD = (
    *(name for name in SUCCESSES if name not in _INSIDE),
    "height",
    "width",
    "original_height",
    "original_width",
)


def with_records(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of tables.SUCCESSES with all columns of RECORD."""
    sizes = {"": "resized_size", "original_": "original_size"}
    sides = [
        pl.col(column).list.get(place, null_on_oob=True).alias(prefix + side)
        for prefix, column in sizes.items()
        for place, side in enumerate(("height", "width"))
    ]
    return rows.with_columns(sides)


def with_json(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of tables.SUCCESSES with `json`: the RECORD of each as a JSON object."""
    iso = pl.col("fetched_at").dt.to_string("iso:strict")
    told = with_records(rows).select(pl.struct(pl.col(RECORD)).struct.with_fields(iso))
    return rows.with_columns(json=told.to_series().struct.json_encode())
