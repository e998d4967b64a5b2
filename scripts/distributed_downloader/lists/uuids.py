"""Names for rows that came without one: UUIDs of version 5 (RFC 9562, section 5.5).

They depend on the row's source_id, its URL as given and its ordinal among rows equal in both, so
that the same list gives the same names, in whatever pieces or by how many threads it is read.
"""

import uuid

import polars as pl
import polars_hash  # noqa: F401 - adds the namespace `uuidhash`, ten times faster than Python

NAMESPACE = uuid.UUID("b0e1fd4c-65f0-5e4c-9d0a-6f1f1c3a7c55")

_SEPARATOR = "\x1f"


def uuids_of_rows(rows: pl.DataFrame) -> pl.Series:
    """The uuids of rows with source_id, identifier (as given; both may be null) and ordinal."""
    key = pl.concat_str(
        pl.col("source_id").fill_null(""),
        pl.col("identifier").fill_null(""),
        pl.col("ordinal").cast(pl.String),
        separator=_SEPARATOR,
    )
    return rows.select(key.uuidhash.uuid5(str(NAMESPACE))).to_series()  # type: ignore[attr-defined]
