"""Which batch every row belongs to, decided on the slim index of all rows.

1. A row whose URL cannot be fetched stays rejected; it takes no uuid away from another.
2. Rows that came without a uuid and are equal get different ones by their ordinal.
3. Of fetchable rows with one uuid the first stays, the others are rejected.
4. Of the rest with one URL, that with the smallest (source_id, uuid) is fetched for all; no
   source_id comes last.
5. Rows keep the order of the input within a server; each `batch_size` of them are a batch.
6. In lists of over `MANY_SERVERS` servers, those with under `TINY_ROWS` rows share batches. All of
   one group go to the same ones.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from distributed_downloader import tables
from distributed_downloader.staging import Staged
from distributed_downloader.url_words import Reason
from distributed_downloader.uuids import uuids_of_rows

MANY_SERVERS = 10_000
TINY_ROWS = 50
SMALL_PREFIX = "_small-"  # no host starts so: two hexadecimal digits of the group's hash follow


@dataclass(frozen=True, slots=True)
class Placement:
    """`rows`, in the order of the staged ones: new_uuid, reason, server_name, partition_id.

    `new_uuid` is null where the staged one stays; the last two are null for rows not to be fetched.
    """

    rows: pl.DataFrame
    duplicates: pl.DataFrame


def place(staged: Staged, batch_size: int, group_of: Callable[[str], str]) -> Placement:
    """The place of every row."""
    index = staged.index.with_row_index("row").with_columns(new_uuid=pl.lit(None, pl.String))
    index = index.update(_renamed(staged, index), on="row", how="left")
    duplicates = _duplicates(staged, index)
    index = index.with_columns(
        is_fetched=pl.col("reason").is_null() & ~pl.col("row").is_in(duplicates["row"].implode())
    )
    rows = _with_server_name(index, group_of).select(
        "new_uuid",
        "reason",
        pl.when("is_fetched").then("server_name").alias("server_name"),
        pl.when("is_fetched")
        .then((pl.col("is_fetched").cum_sum().over("server_name").cast(pl.Int64) - 1) // batch_size)
        .alias("partition_id"),
    )
    return Placement(rows, duplicates.select(tables.DUPLICATES.names()))


def _rows_where(staged: Staged, index: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """These columns of the staged rows that `is_asked`, with the index's, in order."""
    both = pl.concat([staged.rows(columns), index.lazy()], how="horizontal")
    return both.filter("is_asked").collect(engine="streaming").sort("row")


def _renamed(staged: Staged, index: pl.DataFrame) -> pl.DataFrame:
    """Rules 2 and 3: row, new_uuid, reason of the rows with a uuid that is not theirs alone."""
    index = index.select("row", "is_given", "reason", is_asked=pl.col("uuid_hash").is_duplicated())
    if not index["is_asked"].any():
        return index.clear().select("row", pl.lit(None, pl.String).alias("new_uuid"), "reason")
    columns = ["uuid", "source_id", "identifier", "identifier_original"]
    rows = _rows_where(staged, index, columns).with_columns(
        ordinal=pl.int_range(pl.len()).over("uuid", "is_given"),
        identifier=pl.coalesce("identifier_original", "identifier"),
    )
    made = uuids_of_rows(rows.select("source_id", "identifier", "ordinal"))
    is_later = ~pl.col("is_given") & (pl.col("ordinal") > 0)
    rows = rows.with_columns(new_uuid=pl.when(is_later).then(made))
    uuid = pl.coalesce("new_uuid", "uuid")
    is_again = pl.col("reason").is_null() & (pl.col("reason").is_null().cum_sum().over(uuid) > 1)
    repeated = pl.lit(Reason.UUID_REPEATED.value, rows.schema["reason"])
    return rows.select(
        "row", "new_uuid", reason=pl.when(is_again).then(repeated).otherwise("reason")
    )


def _duplicates(staged: Staged, index: pl.DataFrame) -> pl.DataFrame:
    """Rule 4: row, uuid, uuid_main, source_id."""
    is_asked = pl.col("reason").is_null() & (
        pl.col("url_hash").is_duplicated().over(pl.col("reason").is_null())
    )
    index = index.select("row", "new_uuid", is_asked=is_asked)
    if not index["is_asked"].any():
        return pl.DataFrame(schema={"row": pl.UInt32, **tables.DUPLICATES})
    rows = _rows_where(staged, index, ["uuid", "source_id", "identifier"])
    rows = rows.with_columns(uuid=pl.coalesce("new_uuid", "uuid"))
    first = pl.col("uuid").sort_by("source_id", "uuid", nulls_last=True).first()
    rows = rows.with_columns(uuid_main=first.over("identifier"))
    return rows.filter(pl.col("uuid") != pl.col("uuid_main")).select(
        "row", "uuid", "uuid_main", "source_id"
    )


def _with_server_name(index: pl.DataFrame, group_of: Callable[[str], str]) -> pl.DataFrame:
    """Rule 6."""
    servers = index.filter("is_fetched").group_by("server").len()
    tiny = servers.filter(pl.col("len") < TINY_ROWS)
    if servers.height <= MANY_SERVERS or not tiny.height:
        return index.with_columns(server_name="server")
    names = [small_name(group_of(server)) for server in tiny["server"].cast(pl.String)]
    shared = tiny.select("server", small=pl.Series(names, dtype=pl.Categorical))
    return index.join(shared, on="server", how="left", maintain_order="left").with_columns(
        server_name=pl.coalesce("small", "server")
    )


def small_name(group: str) -> str:
    """The shared server_name for tiny servers of this group, one of 256."""
    return SMALL_PREFIX + hashlib.blake2s(group.encode(), digest_size=1).hexdigest()
