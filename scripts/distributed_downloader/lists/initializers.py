"""The known sources: what they call our columns, and which of their rows are images.

The types of `initializer_type`; `general` keeps every row. Rows that a type does not want stay in
the account: they are rejected with `not_selected`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import polars as pl

Column = Callable[[str], pl.Expr]  # a column of the input as text, null if it has no such column


def _every_row(_column: Column) -> pl.Expr:
    return pl.lit(value=True)


def _gbif(column: Column) -> pl.Expr:
    """Still images, and what says nothing but has an image's format; no citations of specimens."""
    kind, record = column("type"), column("basisOfRecord").fill_null("")
    is_image = (kind == "StillImage") | (
        kind.is_null() & column("format").str.to_lowercase().str.contains("image", literal=True)
    )
    is_citation = record.str.to_uppercase().str.contains("MATERIAL_CITATION", literal=True)
    return column("gbifID").is_not_null() & is_image & ~is_citation


def _eol(column: Column) -> pl.Expr:
    return column("EOL content ID").is_not_null()


def _fathom_net(column: Column) -> pl.Expr:
    return column("uuid").is_not_null() & column("valid").str.to_lowercase().is_in(["true", "1"])


def _lila(column: Column) -> pl.Expr:
    return column("original_label").ne_missing("empty")


@dataclass(frozen=True, slots=True)
class Initializer:
    """One source's habits."""

    columns: Mapping[str, str] = field(default_factory=dict)  # our name -> its name
    any_of: tuple[str, ...] = ()  # the first of these that is not null is the identifier
    license: str | None = None  # of all rows
    wanted: Callable[[Column], pl.Expr] = _every_row

    def is_wanted(self, columns: Collection[str]) -> pl.Expr:
        """Whether a row, of the input as it is with these columns, is kept."""

        def column(name: str) -> pl.Expr:
            return pl.col(name).cast(pl.String) if name in columns else pl.lit(None, pl.String)

        return self.wanted(column).fill_null(value=False)


INITIALIZERS = {
    "general": Initializer(),
    "gbif": Initializer({"source_id": "gbifID"}, wanted=_gbif),
    "eol": Initializer(
        {
            "source_id": "EOL content ID",
            "identifier": "EOL Full-Size Copy URL",
            "license": "License Name",
        },
        wanted=_eol,
    ),
    "fathom_net": Initializer(
        {"source_id": "uuid", "identifier": "url"},
        license="http://creativecommons.org/licenses/by-nc-nd/4.0/",
        wanted=_fathom_net,
    ),
    "lila": Initializer(
        {"source_id": "image_id"}, any_of=("url_gcp", "url_aws", "url_azure"), wanted=_lila
    ),
    "tol200m_general": Initializer({"identifier": "source_url"}),
    "tol200m_fathomNet": Initializer({"identifier": "source_url"}),
}
