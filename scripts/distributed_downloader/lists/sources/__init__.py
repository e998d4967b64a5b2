"""The known sources (`initializer_type`): which rows are images, and what they call our columns.

One file is one source. A new one is a new file here with a constant `SOURCE`; nothing else changes.
Rows that a source does not want stay in the account: they are rejected with `not_selected`.
"""

import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import import_module

import polars as pl

from distributed_downloader.errors import ConfigError
from distributed_downloader.settings import Settings

Column = Callable[[str], pl.Expr]  # a column of the input as text, null if it has no such column


def every_row(_column: Column, _settings: Settings) -> pl.Expr:
    """What a source wants that wants everything."""
    return pl.lit(value=True)


@dataclass(frozen=True, slots=True)
class Archive:
    """Tables that come together, as in a Darwin Core Archive: in a zip or a folder, by their names.

    `table` has the rows; of `other` the first row of a key adds its `columns`, where it is there.
    """

    table: str  # without its ending
    other: str
    key: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One source's habits."""

    name: str  # as `initializer_type` says it
    renames: Mapping[str, str] = field(default_factory=dict)  # our name -> its name
    any_of: tuple[str, ...] = ()  # the first of these that is not null is the identifier
    license: str | None = None  # of all rows
    wanted: Callable[[Column, Settings], pl.Expr] = every_row
    archive: Archive | None = None

    def is_wanted(self, columns: Collection[str], settings: Settings) -> pl.Expr:
        """Whether a row, of the input as it is with these columns, is kept."""

        def column(name: str) -> pl.Expr:
            return pl.col(name).cast(pl.String) if name in columns else pl.lit(None, pl.String)

        return self.wanted(column, settings).fill_null(value=False)


@cache
def sources() -> Mapping[str, Source]:
    """Every source by its name."""
    found: dict[str, Source] = {}
    for module in pkgutil.iter_modules(__path__):
        source: Source = import_module(f"{__name__}.{module.name}").SOURCE
        if source.name in found:
            raise ConfigError(
                f"Two sources are called {source.name}: rename that of {module.name}."
            )
        found[source.name] = source
    return found


def source_named(name: str) -> Source:
    """The source of this name. Raises ConfigError, with the nearest known name."""
    known = sources()
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0)
        raise ConfigError(
            f'initializer_type is "{name}": allowed is one of {", ".join(sorted(known))}; '
            f"did you mean {near[0]}?"
        )
    return known[name]
