"""The input read once: its rows, normalised, in numbered files, and a slim index in memory.

Everything that needs all rows at once (repeated uuids, duplicates, batches) works on the index, 30
bytes a row; everything that needs whole rows streams over the staged files. Both are in the order
of the input, and line up row by row.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from distributed_downloader.errors import InputError
from distributed_downloader.lists.ahead import in_order
from distributed_downloader.lists.columns import IS_ALLOWED, IS_WANTED, OURS
from distributed_downloader.lists.filters import Filters
from distributed_downloader.lists.inputs import InputFile
from distributed_downloader.lists.uuids import uuids_of_rows
from distributed_downloader.urls.authorities import CREDENTIALS
from distributed_downloader.urls.columns import normalise_column
from distributed_downloader.urls.words import Reason

MAX_UUID_BYTES = 200

# The staged columns, in front of the input's others. `identifier` is null in rows that cannot be
# fetched; `identifier_original` is null where it would say the same as `identifier`, and has no
# passwords.
_WORKERS = 2

LEADING = ("uuid", "source_id", "identifier", "server", "license", "source", "title")


@dataclass(frozen=True, slots=True)
class Staged:
    """What was read. `index`: uuid_hash, is_given, url_hash, server, reason; one row a row."""

    files: tuple[Path, ...]
    index: pl.DataFrame
    repairs: Counter[str]
    others: tuple[str, ...]  # the input's further columns

    def rows(self, columns: Sequence[str] | None = None) -> pl.LazyFrame:
        """The staged rows, in order."""
        frame = pl.scan_parquet(list(self.files), glob=False)
        return frame if columns is None else frame.select(columns)


def stage(inputs: Sequence[InputFile], folder: Path, filters: Filters) -> Staged:
    """Read all of the input into `folder`. Raises InputError."""
    schema = _common_schema(inputs)
    files: list[Path] = []
    index: list[pl.DataFrame] = []
    repairs: Counter[str] = Counter()

    def staged(numbered: tuple[int, pl.DataFrame]) -> tuple[Path, pl.DataFrame, Counter[str]]:
        number, piece = numbered
        rows, slim, mended = _normalised(piece, filters)
        file = folder / f"{number:06}.parquet"
        rows.write_parquet(file, compression="lz4", statistics=False)
        return file, slim, mended

    with ThreadPoolExecutor(_WORKERS) as workers:
        pieces = enumerate(_pieces(inputs, schema))
        for file, slim, mended in in_order(workers, staged, pieces, ahead=2 * _WORKERS):
            files.append(file)
            index.append(slim)
            repairs.update(mended)
    others = tuple(name for name in schema if name not in {*OURS, IS_WANTED, IS_ALLOWED})
    return Staged(tuple(files), pl.concat(index) if index else _no_index(), repairs, others)


def _common_schema(inputs: Iterable[InputFile]) -> dict[str, pl.DataType]:
    """Every column of any file; as text where files differ in its type."""
    schema: dict[str, pl.DataType] = {}
    for each in inputs:
        for name, kind in each.frame.collect_schema().items():
            known = schema.setdefault(name, kind)
            if known != kind and (known.is_nested() or kind.is_nested()):
                raise InputError(
                    f"{each.path} has {kind} in its column {name}, another file has {known}: "
                    "give files of one kind."
                )
            schema[name] = kind if known == kind else pl.String()
    return schema


def _pieces(inputs: Iterable[InputFile], schema: dict[str, pl.DataType]) -> Iterator[pl.DataFrame]:
    for each in inputs:
        for piece in each.pieces():
            if piece.height:
                yield piece.select(
                    pl.col(name).cast(kind)
                    if name in piece.columns
                    else pl.lit(None, kind).alias(name)
                    for name, kind in schema.items()
                )


def _normalised(
    piece: pl.DataFrame, filters: Filters
) -> tuple[pl.DataFrame, pl.DataFrame, Counter[str]]:
    raw = piece["identifier"]
    urls = normalise_column(raw)
    denied = filters.reasons(urls["server"], piece["license"], piece[IS_ALLOWED])
    bad = pl.when(_is_bad_name(piece["uuid"])).then(pl.lit(Reason.BAD_UUID.value))
    reason = (
        pl.when(piece[IS_WANTED])
        .then(pl.coalesce(urls["reason"], denied, bad))
        .otherwise(pl.lit(Reason.NOT_SELECTED.value))
    )
    urls = urls.with_columns(reason=reason)
    fetchable = urls["reason"].is_null()
    is_given = piece["uuid"].fill_null("") != ""
    rows = piece.drop(IS_WANTED, IS_ALLOWED).with_columns(
        uuid=_uuids(piece, is_given),
        identifier=pl.when(fetchable).then(urls["identifier"]),
        server=pl.when(fetchable).then(urls["server"]),
        identifier_original=pl.when(~fetchable | raw.ne_missing(urls["identifier"]))
        .then(raw)
        .str.replace_all(CREDENTIALS, "//"),
    )
    slim = pl.DataFrame(
        {
            "uuid_hash": rows["uuid"].hash(),
            "is_given": is_given,
            "url_hash": rows["identifier"].hash(),
            "server": rows["server"].cast(pl.Categorical),
            "reason": urls["reason"].cast(pl.Enum([each.value for each in Reason])),
        }
    )
    mended = urls.filter(fetchable)["repairs"].drop_nulls().explode().drop_nulls()
    return rows, slim, Counter(mended.to_list())


def _is_bad_name(uuid: pl.Series) -> pl.Series:
    """Image files give each name of a batch as many bytes as the longest: one must not cost all."""
    is_long = uuid.str.len_bytes() > MAX_UUID_BYTES
    return (is_long | uuid.str.contains(r"[\x00-\x1f\x7f]")).fill_null(value=False)


def _uuids(piece: pl.DataFrame, is_given: pl.Series) -> pl.Series:
    """The given ones, and for the others those of the first among equals."""
    if is_given.all():
        return piece["uuid"]
    made = uuids_of_rows(piece.select("source_id", "identifier", ordinal=pl.lit(0)))
    return piece.select(uuid=pl.when(is_given).then("uuid").otherwise(made)).to_series()


def _no_index() -> pl.DataFrame:
    columns: dict[str, pl.DataType] = {
        "uuid_hash": pl.UInt64(),
        "is_given": pl.Boolean(),
        "url_hash": pl.UInt64(),
        "server": pl.Categorical(),
        "reason": pl.Enum([each.value for each in Reason]),
    }
    return pl.DataFrame(schema=columns)
