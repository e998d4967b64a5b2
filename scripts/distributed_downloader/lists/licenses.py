"""What a licence is, from what people write: a URL, an abbreviation, a sentence.

The class is an SPDX identifier where there is one (`CC-BY-NC-4.0`, `CC0-1.0`, `CC-PDM-1.0`, `MIT`),
the same without a version where none is said (`CC-BY`), a word of rightsstatements.org (`InC`),
`public-domain`, `all-rights-reserved`, `none` where nothing stands, and else `unknown`.

1. Every Creative Commons URL and every Creative Commons name in the text counts. One with a version
   and the same without are one; two that differ make the text `unknown`: nobody chooses for us.
2. Ports to a country (`/by/3.0/de/`) are of the class of their version.
3. What is no Creative Commons licence must be an SPDX identifier, or say one of a few sentences.
"""

import re
from functools import cache, lru_cache

import polars as pl

UNKNOWN, NONE = "unknown", "none"

_CC_URL = re.compile(
    r"creativecommons\.org/(?:licen[cs]es/([a-z+-]+)(?:/(\d\.\d))?|publicdomain/(zero|mark)(?:/1\.0)?)"
)
_RIGHTS_URL = re.compile(r"rightsstatements\.org/(?:vocab|page)/([a-z-]+)")
_RIGHTS = {
    word.lower(): word
    for word in (
        *("InC", "InC-OW-EU", "InC-EDU", "InC-NC", "InC-RUU"),
        *("NoC-CR", "NoC-NC", "NoC-OKLR", "NoC-US", "CNE", "UND", "NKC"),
    )
}
_PARTS = {
    "nc": r"nc|non ?commercial",
    "nd": r"nd|no ?deriv\w*(?: works)?",
    "sa": r"sa|share ?alike",
}
_PART = rf"(?:{'|'.join(_PARTS.values())})"
_NAME = rf"(?:by|attribution)(?: {_PART})*"
_FILL = r"(?: (?:licen[cs]e|public|unported|generic|international|version|v))*"
_CC_NAME = re.compile(
    rf"(?:\bcc|creative commons){_FILL} ?({_NAME})\b{_FILL}(?: ?v?(\d)(?:[. ](\d))?\b)?"
    rf"|^({_NAME}){_FILL}(?: ?v?(\d)(?:[. ](\d))?)?{_FILL}$"
)
_CC0 = re.compile(r"\bcc ?(?:0|zero)\b")
_GAPS = re.compile(r"[\s_/()\[\],;:–—-]+")
_SENTENCES = (
    ("NKC", re.compile(r"no known copyright")),
    ("public-domain", re.compile(r"^(?:in the )?public ?domain\b|^pd$")),
    ("all-rights-reserved", re.compile(r"all rights reserved|^(?:©|\(c\)|copyright)")),
)


def license_classes(texts: pl.Series) -> pl.Series:
    """The class of each text of a column; a column has few different ones."""
    unique = texts.unique()
    found = pl.Series([license_class(text) for text in unique], dtype=pl.String)
    return texts.replace_strict(unique, found, return_dtype=pl.String)


@lru_cache(maxsize=100_000)
def license_class(text: str | None) -> str:
    """The class of a licence as it is written; never raises."""
    low = (text or "").strip().lower()[:2000]
    if not low:
        return NONE
    if named := _one_of(_creative_commons(low)):
        return named
    if rights := _RIGHTS_URL.search(low):
        return _RIGHTS.get(rights[1], UNKNOWN)
    plain = _GAPS.sub(" ", low).strip()
    for name, sentence in _SENTENCES:
        if sentence.search(plain):
            return name
    return _spdx().get(low, UNKNOWN)


def _one_of(found: set[str]) -> str | None:
    """The one class that these are, `unknown` if they are several, None if there is none."""
    real = {each for each in found if not _is_said_with_version(each, found)}
    return None if not found else real.pop() if len(real) == 1 else UNKNOWN


def _is_said_with_version(name: str, among: set[str]) -> bool:
    return any(re.fullmatch(rf"{re.escape(name)}-\d\.\d", other) for other in among)


def _creative_commons(low: str) -> set[str]:
    found = {_of_url(*url.groups()) for url in _CC_URL.finditer(low)}
    words = _GAPS.sub(" ", _CC_URL.sub(" ", low)).strip()
    for name in _CC_NAME.finditer(words):
        code, major, minor = (name[1], name[2], name[3]) if name[1] else (name[4], name[5], name[6])
        parts = [part for part, spelt in _PARTS.items() if re.search(rf" (?:{spelt})\b", code)]
        found.add(_code(["by", *parts], f"{major}.{minor or 0}" if major else None))
    if _CC0.search(words):
        found.add("CC0-1.0")
    return found


def _of_url(code: str | None, version: str | None, mark: str | None) -> str:
    if mark:
        return {"zero": "CC0-1.0", "mark": "CC-PDM-1.0"}[mark]
    if code == "publicdomain":
        return "CC-PDDC"
    return _code((code or "").strip("-").split("-"), version)


def _code(parts: list[str], version: str | None) -> str:
    """In SPDX's order; what Creative Commons never had is unknown."""
    order = [part for part in ("by", "nc", "nd", "sa") if part in parts]
    if len(order) != len(parts) or {"nd", "sa"} <= set(order):
        return UNKNOWN
    return "-".join(["CC", *(part.upper() for part in order), *([version] if version else [])])


@cache
def _spdx() -> dict[str, str]:
    """SPDX's identifiers by their lower case; loaded when a text is no Creative Commons one."""
    from license_expression import get_spdx_licensing  # noqa: PLC0415 - a third of a second

    return {key.lower(): key for key in get_spdx_licensing().known_symbols}
