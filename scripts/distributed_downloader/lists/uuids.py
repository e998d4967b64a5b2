"""Names for rows that came without one: UUIDs of version 5 (RFC 9562, section 5.5).

They depend on the row's source_id, its URL as given and its ordinal among rows equal in both, so
that the same list gives the same names, in whatever pieces or by how many threads it is read.
"""

import hashlib
import uuid
from collections.abc import Iterator

import numpy as np
import polars as pl

NAMESPACE = uuid.UUID("b0e1fd4c-65f0-5e4c-9d0a-6f1f1c3a7c55")

_SEPARATOR = "\x1f"
_DIGITS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))  # of the hex form, between its hyphens


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
    return _written_out(b"".join(_digests(keys.to_list())))


def _digests(keys: list[bytes]) -> Iterator[bytes]:
    begun = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)
    for key in keys:
        digest = begun.copy()  # cheaper than a new one: there may be 200 million
        digest.update(key)
        yield digest.digest()


def _written_out(digests: bytes) -> pl.Series:
    """RFC 9562's text form of SHA-1 digests (20 bytes each, joined), all at once."""
    raw = np.frombuffer(digests, np.uint8).reshape(-1, 20)[:, :16].copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x50  # version
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80  # variant
    digits = np.frombuffer(raw.tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    text = np.full((len(raw), 37), ord("-"), np.uint8)
    for hyphens, (start, end) in enumerate(_DIGITS):
        text[:, start + hyphens : end + hyphens] = digits[:, start:end]
    text[:, 36] = ord("\n")
    return pl.Series(text.tobytes().decode("ascii").split(), dtype=pl.String)
