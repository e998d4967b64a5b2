"""Opt-outs in an answer's own headers: X-Robots-Tag (with agent scopes) and TDM-Reservation.

A field of X-Robots-Tag is a list of directives; `some-bot:` before one makes it, and those after
it in the same field, about that agent alone. `none` is noindex and nofollow. TDMRep (W3C community
group, 2024) says `TDM-Reservation: 1`.
"""

import re
from collections.abc import Collection, Iterator

from distributed_downloader.courtesy.headers import Headers, pairs_of

TDM = "tdm-reservation"
MAX_CHARS = 4096  # of one field that are looked at
_SCOPE = re.compile(r"\s*([A-Za-z*][\w*.-]*)\s*:(.*)", re.DOTALL | re.ASCII)
_VALUED = frozenset(  # directives that have a value: no agents
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
)


def opted_out(headers: Headers, counted: Collection[str], agent: str) -> str | None:
    """The header that keeps the image out, as evidence; None if none of the `counted` does.

    `counted` are lower-case words as in politeness.opt_out_headers; `agent` is our product token.
    Fields of one name must come apart (pairs) for a scope not to reach into the next.
    """
    for name, value in pairs_of(headers):
        if name == TDM and TDM in counted and value.strip() == "1":
            return "TDM-Reservation: 1"
        if name != "x-robots-tag":
            continue
        for scope, directive in _directives(value[:MAX_CHARS]):
            if scope in ("*", agent.lower()) and _counts(directive, counted):
                where = "" if scope == "*" else f"{scope}: "
                return f"X-Robots-Tag: {where}{directive}"
    return None


def _counts(directive: str, counted: Collection[str]) -> bool:
    return directive in counted or (directive == "none" and "noindex" in counted)


def _directives(field: str) -> Iterator[tuple[str, str]]:
    """(agent or `*`, directive), both in lower case."""
    scope = "*"
    for item in field.lower().split(","):
        word = item
        found = _SCOPE.fullmatch(item)
        if found and found[1] not in _VALUED:
            scope, word = found[1], found[2]
        yield scope, word.strip()
