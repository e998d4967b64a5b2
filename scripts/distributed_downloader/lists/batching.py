"""Which batch every row belongs to, decided on the slim index of all rows.

1. A row whose URL cannot be fetched stays rejected; it takes no uuid away from another.
2. Rows that came without a uuid and are equal get different ones by their ordinal.
3. Of fetchable rows with one uuid the first stays, the others are rejected.
4. Of the rest with one URL, that with the smallest (source_id, uuid) is fetched for all; no
   source_id comes last.
5. Rows keep the order of the input within a server; each `batch_size` of them are a batch.
6. In lists of over `MANY_SERVERS` servers, those with under `TINY_ROWS` rows share batches, and
   always those whose names are longer than `MAX_NAME_BYTES`. All of one group go to the same ones.
7. In a list that has grown, rows that have their place already keep it, and come first by the rules
   3 and 4 (then those that had it once). The others make new batches, numbered on from those that
   their server has.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from distributed_downloader.lists.placed import NEVER_THERE, Hashes, Placed, identities
from distributed_downloader.lists.staging import Staged
from distributed_downloader.lists.uuids import uuids_of_rows
from distributed_downloader.urls.words import Reason

MANY_SERVERS = 10_000
TINY_ROWS = 50
MAX_NAME_BYTES = 200  # of a server: its folder's name has some more, and file systems take 255
SMALL_PREFIX = "_small-"  # no host starts so: two hexadecimal digits of the group's hash follow


@dataclass(frozen=True, slots=True)
class Placement:
    """Where every row goes.

    `rows`, in the order of the staged ones: batch (null: not fetched, or placed before) and reason
    (null: not rejected). `batches`: batch, server_name, partition_id, rows; sorted, batch being the
    position. `new_uuids`: row, new_uuid, of the few rows that the staged uuid is not kept for.
    `duplicates`: row, uuid_main, in the order of the staged ones. `is_listed`: of each row, whether
    it is in a batch, new or old. `listed`: identities and hashed uuids of those rows, each sorted;
    empty if nothing was placed before.
    """

    rows: pl.DataFrame
    batches: pl.DataFrame
    new_uuids: pl.DataFrame
    duplicates: pl.DataFrame
    is_listed: pl.Series
    listed: tuple[Hashes, Hashes]


def place(
    staged: Staged,
    batch_size: int,
    group_of: Callable[[str], str],
    placed: Placed | None = None,
) -> Placement:
    """The place of every row; of one that was placed before, that it is."""
    placed = placed or Placed()
    index = staged.index.with_row_index("row")
    renamed = _renamed(staged, index, placed)
    new_uuids = renamed.filter(pl.col("new_uuid").is_not_null()).select("row", "new_uuid")
    index = _with_identities(index.update(renamed.select("row", "reason"), on="row"), new_uuids)
    index = index.with_columns(rank=placed.rank_of(index["uuid_hash"], index["url_hash"]))
    duplicates = _duplicates(staged, index, new_uuids)
    is_listed = pl.col("reason").is_null() & ~pl.col("row").is_in(duplicates["row"].implode())
    index = index.with_columns(is_listed=is_listed)
    index = index.with_columns(is_fetched=pl.col("is_listed") & (pl.col("rank") == NEVER_THERE))
    named = _with_server_name(index, group_of, placed)
    rows = _with_batch(named, batch_size, placed)
    batches = _batches(rows)
    return Placement(
        rows.select(_batch_of(rows, batches), "reason"),
        batches.with_columns(pl.col("server_name").cast(pl.String)),
        new_uuids,
        duplicates,
        index["is_listed"],
        _listed(index) if len(placed.rows) else (placed.rows, placed.rows),
    )


def _with_identities(index: pl.DataFrame, new_uuids: pl.DataFrame) -> pl.DataFrame:
    """The index with the hashes of the uuids that rows got instead."""
    hashes = new_uuids.select("row", uuid_hash=pl.col("new_uuid").hash())
    return index.update(hashes, on="row") if hashes.height else index


def _listed(index: pl.DataFrame) -> tuple[Hashes, Hashes]:
    listed = index.filter("is_listed").select("uuid_hash", "url_hash")
    ids = identities(listed["uuid_hash"], listed["url_hash"])
    return np.sort(ids), np.sort(listed["uuid_hash"].to_numpy())


def _with_batch(index: pl.DataFrame, batch_size: int, placed: Placed) -> pl.DataFrame:
    """Rules 5 and 7: reason, server_name, partition_id; the latter null for what is not fetched."""
    number = pl.col("is_fetched").cum_sum().over("server_name").cast(pl.Int64) - 1
    table = index.select(
        "reason",
        server_name=pl.when("is_fetched").then("server_name"),
        partition_id=pl.when("is_fetched").then(number // batch_size),
    )
    if placed.batches.is_empty():
        return table
    first = placed.next_ids.with_columns(pl.col("server_name").cast(pl.Categorical))
    table = table.join(first, on="server_name", how="left", maintain_order="left")
    return table.with_columns(pl.col("partition_id") + pl.col("next_id").fill_null(0))


def _batches(rows: pl.DataFrame) -> pl.DataFrame:
    counted = rows.lazy().filter(pl.col("server_name").is_not_null())
    counted = counted.group_by("server_name", "partition_id").agg(rows=pl.len())
    by_name = pl.col("server_name").cast(pl.String)
    return counted.sort(by_name, "partition_id").with_row_index("batch").collect()


def _rows_where(staged: Staged, index: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """These columns of the staged rows that `is_asked`, with the index's, in order."""
    both = pl.concat([staged.rows(columns), index.lazy()], how="horizontal")
    return both.filter("is_asked").collect(engine="streaming").sort("row")


def _batch_of(rows: pl.DataFrame, batches: pl.DataFrame) -> pl.Series:
    """The position in `batches`: where a server's begin, by its code, and its partition_id on."""
    codes = rows["server_name"].to_physical()
    first = batches.group_by("server_name").agg(pl.col("batch", "partition_id").min())
    known = first["server_name"].to_physical().to_numpy()
    begin = np.zeros(int(known.max(initial=0)) + 1, np.int64)
    begin[known] = first["batch"].to_numpy().astype(np.int64) - first["partition_id"].to_numpy()
    batch = pl.Series("batch", begin).gather(codes) + rows["partition_id"]
    return batch.cast(pl.UInt32).alias("batch")


def _is_repeated(hashes: pl.Series, among: pl.Series | None = None) -> pl.Series:
    """Whether a hash occurs more than once (among those rows).

    By sorting: a table of all of them takes several times the memory.
    """
    in_order = (hashes if among is None else hashes.filter(among)).sort()
    return hashes.is_in(in_order.filter(in_order == in_order.shift(1)).unique().implode())


def _renamed(staged: Staged, index: pl.DataFrame, placed: Placed) -> pl.DataFrame:
    """Rules 2 and 3: row, new_uuid, reason of the rows with a uuid that is not theirs alone."""
    index = index.select("row", "is_given", "reason", is_asked=_is_repeated(index["uuid_hash"]))
    if not index["is_asked"].any():
        return index.clear().select("row", pl.lit(None, pl.String).alias("new_uuid"), "reason")
    columns = ["uuid", "source_id", "identifier", "identifier_original"]
    rows = _rows_where(staged, index, columns).with_columns(
        ordinal=pl.int_range(pl.len()).over("uuid", "is_given"),
        as_given=pl.coalesce("identifier_original", "identifier"),
    )
    made = uuids_of_rows(rows.select("source_id", identifier="as_given", ordinal="ordinal"))
    is_later = ~pl.col("is_given") & (pl.col("ordinal") > 0)
    rows = rows.with_columns(new_uuid=pl.when(is_later).then(made))
    uuid = pl.coalesce("new_uuid", "uuid")
    hashes = rows.select(uuid_hash=uuid.hash(), url_hash=pl.col("identifier").hash())
    rows = rows.with_columns(rank=placed.rank_of(hashes["uuid_hash"], hashes["url_hash"]))
    rows = rows.sort("rank", "row")
    is_again = pl.col("reason").is_null() & (pl.col("reason").is_null().cum_sum().over(uuid) > 1)
    repeated = pl.lit(Reason.UUID_REPEATED.value, rows.schema["reason"])
    return rows.select(
        "row", "new_uuid", reason=pl.when(is_again).then(repeated).otherwise("reason")
    )


def _duplicates(staged: Staged, index: pl.DataFrame, new_uuids: pl.DataFrame) -> pl.DataFrame:
    """Rule 4: row, uuid_main."""
    fetchable = index["reason"].is_null()
    is_asked = fetchable & _is_repeated(index["url_hash"], fetchable)
    index = index.select("row", "rank", is_asked=is_asked)
    if not index["is_asked"].any():
        return pl.DataFrame(schema={"row": pl.UInt32, "uuid_main": pl.String})
    rows = _rows_where(staged, index, ["uuid", "source_id", "identifier"])
    rows = with_new_uuids(rows, new_uuids)
    by_rank = pl.col("uuid").sort_by("rank", "source_id", "uuid", nulls_last=True)
    first = by_rank.first()
    rows = rows.with_columns(uuid_main=first.over("identifier"))
    return rows.filter(pl.col("uuid") != pl.col("uuid_main")).select("row", "uuid_main")


def with_new_uuids(rows: pl.DataFrame, new_uuids: pl.DataFrame) -> pl.DataFrame:
    """These rows (row, uuid, ...) with the uuids that they got instead."""
    new = new_uuids.rename({"new_uuid": "uuid"})
    return rows.update(new, on="row", how="left")


def _with_server_name(
    index: pl.DataFrame, group_of: Callable[[str], str], placed: Placed
) -> pl.DataFrame:
    """Rule 6; a server that has batches of its own goes on with them."""
    servers = index.filter("is_listed").group_by("server").len()
    name = pl.col("server").cast(pl.String)
    has_own = name.is_in(placed.batches["server_name"].implode())
    is_tiny = (pl.col("len") < TINY_ROWS) & (servers.height > MANY_SERVERS) & ~has_own
    tiny = servers.filter(is_tiny | (name.str.len_bytes() > MAX_NAME_BYTES))
    if not tiny.height:
        return index.with_columns(server_name="server")
    names = [small_name(group_of(server)) for server in tiny["server"].cast(pl.String)]
    shared = tiny.select("server", small=pl.Series(names, dtype=pl.Categorical))
    return index.join(shared, on="server", how="left", maintain_order="left").with_columns(
        server_name=pl.coalesce("small", "server")
    )


def small_name(group: str) -> str:
    """The shared server_name for tiny servers of this group, one of 256."""
    return SMALL_PREFIX + hashlib.blake2s(group.encode(), digest_size=1).hexdigest()
