"""Filters before the fetch: rows that could be fetched and shall not be, each with its reason.

In this order: the server, the licence, the row. What is denied makes no request and is counted.
"""

import csv
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl

from distributed_downloader.errors import ConfigError
from distributed_downloader.lists.licenses import license_classes
from distributed_downloader.settings import Settings
from distributed_downloader.urls.entries import entry_of, names_of, without_note
from distributed_downloader.urls.words import Reason

_COLUMN = "server_name"


class Filters:
    """The settings' filters, ready for columns of rows."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError for what can be seen without a row."""
        given = settings.filters
        _condition(given.where)
        self._licenses = tuple(pattern.lower() for pattern in given.licenses)
        self._servers = _entries("filters.servers", given.servers)
        excluded = _entries("filters.servers_excluded", given.servers_excluded)
        self._excluded = excluded | _listed(settings.excluded_servers_path)

    def reasons(self, servers: pl.Series, licenses: pl.Series, allowed: pl.Series) -> pl.Series:
        """Why each row is denied; null where it is not."""
        return pl.select(
            pl.when(self._denies_server(servers))
            .then(pl.lit(Reason.SERVER_DENIED.value))
            .when(self._denies_license(licenses))
            .then(pl.lit(Reason.LICENSE_DENIED.value))
            .when(~allowed)
            .then(pl.lit(Reason.ROW_DENIED.value))
        ).to_series()

    def _denies_server(self, servers: pl.Series) -> pl.Series:
        if not self._servers and not self._excluded:
            return pl.repeat(value=False, n=len(servers), eager=True)
        denied = [server for server in servers.unique().drop_nulls() if self._denies(server)]
        return servers.is_in(denied).fill_null(value=False)

    def _denies(self, server: str) -> bool:
        names = names_of(server)
        if self._servers and self._servers.isdisjoint(names):
            return True
        return not self._excluded.isdisjoint(names)

    def _denies_license(self, licenses: pl.Series) -> pl.Series:
        if not self._licenses:
            return pl.repeat(value=False, n=len(licenses), eager=True)
        classes = license_classes(licenses)
        known = [each for each in classes.unique() if self._allows(each)]
        return ~classes.is_in(known)

    def _allows(self, license_class: str) -> bool:
        return any(fnmatchcase(license_class.lower(), pattern) for pattern in self._licenses)


def is_allowed(frame: pl.LazyFrame, path: Path, settings: Settings) -> pl.Expr:
    """Whether `filters.where` is true of a row of this file. Raises ConfigError if it cannot be."""
    condition = _condition(settings.filters.where)
    if condition is None:
        return pl.lit(value=True)
    names = frame.collect_schema().names()
    unknown = [name for name in condition.meta.root_names() if name not in names]
    if unknown:
        raise ConfigError(
            f"filters.where asks for {', '.join(unknown)}, but the columns of {path} are "
            f"{', '.join(names[:100])}: name one of these."
        )
    kind = _kind(frame, condition, settings.filters.where)
    if kind != pl.Boolean:
        raise ConfigError(
            f"filters.where is {settings.filters.where!r}, which is {kind} and not true or false: "
            "compare it with something."
        )
    return condition.fill_null(value=False)


def _kind(frame: pl.LazyFrame, condition: pl.Expr, where: str) -> pl.DataType:
    try:
        return frame.select(condition.alias("kind")).collect_schema()["kind"]
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"filters.where is {where!r}: {_first_line(error)}.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _condition(where: str) -> pl.Expr | None:
    if not where.strip():
        return None
    try:
        return pl.sql_expr(where)
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            f"filters.where is {where!r}, which is no condition in SQL ({_first_line(error)}): "
            "write it as in \"kingdom = 'Plantae'\"."
        ) from error


def _listed(path: Path | None) -> frozenset[str]:
    """The column server_name of a table."""
    if path is None:
        return frozenset()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if _COLUMN not in (rows.fieldnames or ()):
                raise ConfigError(
                    f"excluded_servers_path: {path} has no column {_COLUMN}; give it that header."
                )
            return frozenset(
                entry_of(row[_COLUMN], f"excluded_servers_path: {path}, line {rows.line_num},")
                for row in rows
                if without_note(row[_COLUMN])
            )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"excluded_servers_path: cannot read {path}: {error}.") from error


def _entries(place: str, given: Sequence[str]) -> frozenset[str]:
    return frozenset(entry_of(each, place) for each in given)
