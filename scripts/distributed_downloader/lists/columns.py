"""Which column of an input is which of ours, and a table with our names first.

1. A name in the config's `columns` that is not our own name must be there.
2. Else the name that the source knows, if it is there.
3. Else our own name, then our own name whatever its case.
4. Else the one column known by another name (`ALIASES`), if there is exactly one.
Only the URL is needed; what else is missing is null. All other columns pass through unchanged; one
that bears a name we write ourselves gets `_input` behind it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from distributed_downloader.errors import InputError
from distributed_downloader.lists.filters import is_allowed
from distributed_downloader.lists.sources import Source, source_named
from distributed_downloader.settings import Settings
from distributed_downloader.tables import EXPECTED_HASH

OURS = ("uuid", "source_id", "identifier", "license", "source", "title")
ALIASES = {
    "identifier": ("url", "image_url", "imageurl", "accessuri", "access_uri", "source_url", "uri"),
    "source_id": ("gbifid", "sourceid", "id"),
    "license": ("licence",),
}
CREDITED = {  # columns that the credits look for, under the names they have at GBIF
    "creator": "creator",
    "rights_holder": "rightsHolder",
    "publisher": "publisher",
    "reference": "references",
    "dataset_key": "datasetKey",
}
WRITTEN = frozenset(  # names that partition adds, some only while it places the rows
    [
        *("server", "server_name", "partition_id", "identifier_original", "reason"),
        *("row", "batch", "uuid_main", EXPECTED_HASH, *OURS),
    ]
)
IS_WANTED = "__is_wanted"  # a row that the source keeps
IS_ALLOWED = "__is_allowed"  # a row of which `filters.where` is true


def is_url_column(name: str, settings: Settings) -> bool:
    """Whether a header of this one name says that URLs follow."""
    source = source_named(settings.initializer_type)
    known = {"identifier", settings.columns["identifier"], *ALIASES["identifier"]}
    known |= {source.renames.get("identifier", ""), *source.any_of} - {""}
    return name.lower() in {each.lower() for each in known}


def with_our_columns(frame: pl.LazyFrame, path: Path, settings: Settings) -> pl.LazyFrame:
    """Our columns as text, `IS_WANTED`, `IS_ALLOWED`, then the others.

    Raises InputError, with the columns found, if the URLs are not there.
    """
    schema = frame.collect_schema()
    source = source_named(settings.initializer_type)
    theirs = _theirs(path, schema.names(), settings, source)
    any_of = [name for name in source.any_of if name in schema]
    ours = [_ours(name, theirs, schema, path) for name in OURS]
    if "identifier" not in theirs and any_of:
        ours[OURS.index("identifier")] = pl.coalesce(any_of).cast(pl.String).alias("identifier")
    if "license" not in theirs and source.license:
        ours[OURS.index("license")] = pl.lit(source.license).alias("license")
    taken = set(theirs.values())
    others = [name for name in schema.names() if name not in taken]
    wanted = source.is_wanted(schema.names(), settings).alias(IS_WANTED)
    new = {theirs: ours for ours, theirs in source.renames.items() if ours not in OURS}
    frame = frame.with_columns(each for each in ours if each.meta.output_name() not in schema)
    allowed = is_allowed(frame, path, settings).alias(IS_ALLOWED)
    hashes = _hashes(path, schema.names(), settings)
    return frame.select(*ours, wanted, allowed, *hashes, *_passed_through(others, new))


def _hashes(path: Path, names: Sequence[str], settings: Settings) -> list[pl.Expr]:
    """The promised hashes under our name, if the list has any; theirs passes through too."""
    name = settings.columns["hash"]
    if not name:
        return []
    if name not in names:
        raise _missing(path, "hash", name, names)
    return [pl.col(name).cast(pl.String).str.strip_chars().alias(EXPECTED_HASH)]


def _theirs(
    path: Path, names: Sequence[str], settings: Settings, source: Source
) -> Mapping[str, str]:
    """Our name -> the input's, for those that are there."""
    theirs: dict[str, str] = {}
    unclaimed = [name for name in names if name not in source.renames.values()]
    for ours in OURS:
        asked = settings.columns.get(ours, ours)
        habit = source.renames.get(ours)
        name = asked if asked != ours else habit if habit in names else _known(ours, unclaimed)
        if asked != ours and asked not in names:
            raise _missing(path, ours, asked, names)
        if name is not None and name not in theirs.values():
            theirs[ours] = name
    for ours, usual in CREDITED.items():
        if settings.columns[ours] not in (usual, *names):
            raise _missing(path, ours, settings.columns[ours], names)
    if "identifier" not in theirs and not set(source.any_of) & set(names):
        taken = next((ours for ours in theirs if is_url_column(theirs[ours], settings)), None)
        if taken is not None:
            raise _taken(path, taken, theirs[taken])
        raise _missing(path, "identifier", source.renames.get("identifier"), names)
    return theirs


def _known(ours: str, names: Sequence[str]) -> str | None:
    if ours in names:
        return ours
    for known in ((ours,), ALIASES.get(ours, ())):
        found = [name for name in names if name.strip().lower() in known]
        if len(found) == 1:
            return found[0]
    return None


def _missing(path: Path, ours: str, theirs: str | None, names: Sequence[str]) -> InputError:
    found = ", ".join(names[:100])
    return InputError(
        f"{path} has no column {theirs or ours}; its columns are {found}: "
        f"name the right one in the config, as columns: {{{ours}: <name>}}."
    )


def _taken(path: Path, ours: str, theirs: str) -> InputError:
    return InputError(
        f"{path} has no column left for the URLs, since columns.{ours} in the config is {theirs}: "
        f"leave columns.{ours} out, or name another column there."
    )


def _ours(name: str, theirs: Mapping[str, str], schema: pl.Schema, path: Path) -> pl.Expr:
    if name not in theirs:
        return pl.lit(None, pl.String).alias(name)
    if schema[theirs[name]].is_nested():
        raise InputError(
            f"{path} has a {schema[theirs[name]]} in its column {theirs[name]}: "
            "give one value a row (explode it) and run the same command again."
        )
    return pl.col(theirs[name]).cast(pl.String).alias(name)


def _passed_through(names: Sequence[str], renames: Mapping[str, str]) -> list[pl.Expr]:
    kept: list[pl.Expr] = []
    used = set(names) | WRITTEN
    for name in names:
        wish = renames.get(name, name)
        new = name if wish in used else wish
        while new in WRITTEN or (new != name and new in used) or new.startswith("__"):
            new = f"{new.lstrip('_')}_input"
        used.add(new)
        kept.append(pl.col(name).alias(new))
    return kept
