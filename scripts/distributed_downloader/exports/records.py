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


def records(rows: pl.DataFrame) -> pl.DataFrame:
    """One record for each row of tables.SUCCESSES; RECORD."""
    sizes = {"": "resized_size", "original_": "original_size"}
    sides = [
        pl.col(column).list.get(place, null_on_oob=True).alias(prefix + side)
        for prefix, column in sizes.items()
        for place, side in enumerate(("height", "width"))
    ]
    return rows.with_columns(sides).select(RECORD)


def json_lines(rows: pl.DataFrame) -> list[str]:
    """The record of each row as a JSON object."""
    table = records(rows).with_columns(pl.col("fetched_at").dt.to_string("iso:strict"))
    return table.select(pl.struct(pl.all()).struct.json_encode()).to_series().to_list()
