"""`urls.normalise_url` for a whole column: what is clearly clean is decided without Python.

In real lists nearly every URL is clean already. Only the others go through `normalise_url`, one by
one; a clean URL is by definition one that `normalise_url` gives back unchanged (a property test).
"""

import numpy as np
import polars as pl

from distributed_downloader.urls.authorities import FILE_EXTENSIONS, MAX_HOST
from distributed_downloader.urls.normalise import (
    MAX_URL_BYTES,
    Normalised,
    Rejection,
    normalise_url,
)

_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "identifier": pl.String,  # the normalised URL, null if rejected
    "server": pl.String,
    "reason": pl.String,  # null if fetchable
    "repairs": pl.List(pl.String),  # null if clean
}
SCHEMA = pl.Schema(_COLUMNS)

_NAME = r"(?:[a-z0-9_-]{1,63}\.)+[a-z][a-z0-9_-]{0,62}"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PORT = r"(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?"
_CHARACTERS = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*"
_CLEAN = rf"^https?://(?:{_NAME}|(?:{_BYTE}\.){{3}}{_BYTE}){_PORT}/{_CHARACTERS}$"
_UNCLEAN = (
    r"/\.\.?(?:/|\?|$)"  # dot segments
    r"|[,;](?i:https?):"  # perhaps several URLs
)
_FILE_AS_HOST = rf"\.(?:{'|'.join(sorted(FILE_EXTENSIONS))})(?::[0-9]+)?$"


def server_of_clean(url: pl.Expr) -> pl.Expr:
    """The server of a clean URL: what stands between the second and the third slash."""
    return url.str.splitn("/", 4).struct.field("field_2")


def is_clean(url: pl.Expr, server: pl.Expr) -> pl.Expr:
    """True only where `normalise_url` would change nothing; false for some of those, and null.

    `server` is what `server_of_clean` gives for the URL.
    """
    is_default_port = (url.str.starts_with("http:") & server.str.ends_with(":80")) | (
        url.str.starts_with("https:") & server.str.ends_with(":443")
    )
    return (
        url.str.contains(_CLEAN)
        & ~url.str.contains(_UNCLEAN)
        & (url.str.len_bytes() <= MAX_URL_BYTES)
        & (server.str.len_bytes() <= MAX_HOST)
        & ~server.str.contains(_FILE_AS_HOST)
        & ~is_default_port
    ).fill_null(value=False)


def normalise_column(raw: pl.Series) -> pl.DataFrame:
    """`SCHEMA`, row by row for the column of texts `raw`."""
    url = pl.col("identifier")
    table = (
        pl.DataFrame({"identifier": raw.cast(pl.String)})
        .with_columns(server=server_of_clean(url))
        .with_columns(
            pl.lit(None, pl.String).alias("reason"),
            pl.lit(None, pl.List(pl.String)).alias("repairs"),
            clean=is_clean(url, pl.col("server")),
        )
    )
    if table["clean"].all():
        return table.select(SCHEMA.names())
    unclean = (~table["clean"]).arg_true().to_numpy()
    slow = _one_by_one(table["identifier"].gather(unclean))
    place = np.arange(len(table), dtype=np.uint32)
    place[unclean] = len(table) + np.arange(len(unclean), dtype=np.uint32)
    return pl.concat([table.select(SCHEMA.names()), slow])[place]


def _one_by_one(raw: pl.Series) -> pl.DataFrame:
    return pl.DataFrame([_row(normalise_url(text)) for text in raw], schema=SCHEMA, orient="row")


def _row(result: Normalised | Rejection) -> tuple[str | None, str | None, str | None, list[str]]:
    if isinstance(result, Rejection):
        return None, None, str(result.reason), []
    return result.url, result.server, None, [str(repair) for repair in result.repairs]
