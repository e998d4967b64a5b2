"""Names for rows that came without one: UUIDs of version 5 (RFC 9562, section 5.5).

They depend on the row's source_id, its URL as given and its ordinal among rows equal in both, so
that the same list gives the same names, in whatever pieces or by how many threads it is read.
"""

import hashlib
import uuid

import polars as pl

NAMESPACE = uuid.UUID("b0e1fd4c-65f0-5e4c-9d0a-6f1f1c3a7c55")

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_SEPARATOR = "\x1f"


def uuids_of_rows(rows: pl.DataFrame) -> pl.Series:
    """The uuids of rows with source_id, identifier (as given; both may be null) and ordinal."""
    keys = rows.select(
        pl.concat_str(
            pl.col("source_id").fill_null(""),
            pl.col("identifier").fill_null(""),
            pl.col("ordinal").cast(pl.String),
            separator=_SEPARATOR,
        ).cast(pl.Binary)
    ).to_series()
    prefix = NAMESPACE.bytes
    digests = [hashlib.sha1(prefix + key, usedforsecurity=False).hexdigest() for key in keys]
    digest = pl.col("digest").str
    return (
        pl.DataFrame({"digest": pl.Series(digests, dtype=pl.String)})
        .select(
            uuid=pl.concat_str(
                digest.slice(0, 8),
                pl.lit("-"),
                digest.slice(8, 4),
                pl.lit("-5"),
                digest.slice(13, 3),
                pl.lit("-"),
                digest.slice(16, 1).replace_strict(_VARIANT, return_dtype=pl.String),
                digest.slice(17, 3),
                pl.lit("-"),
                digest.slice(20, 12),
            )
        )
        .to_series()
    )
