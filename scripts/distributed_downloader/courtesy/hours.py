"""Hours of the day (UTC) in which a server may be asked: `20-6`, `22:30-06:00`, or several such."""

import re
from collections.abc import Sequence

from distributed_downloader.errors import ConfigError

DAY_S = 86_400
Hours = tuple[tuple[float, float], ...]  # seconds of the UTC day, from-to; () = always

_HOURS = re.compile(r"(\d{1,2})(?::([0-5]\d))?\s*-\s*(\d{1,2})(?::([0-5]\d))?")


def hours_of(value: str | Sequence[str]) -> Hours:
    """`20-6` or `22:30-06:00`, one or several, as seconds of the UTC day. Raises ConfigError."""
    spans = [value] if isinstance(value, str) else value
    return tuple(span for text in spans for span in _span(text))


def _span(text: str) -> Hours:
    found = _HOURS.fullmatch(text.strip())
    numbers = [int(number or 0) for number in found.groups()] if found else [0, 0, 0, 0]
    start, end = (60.0 * (60 * h + m) for h, m in (numbers[:2], numbers[2:]))
    if end in (start, start % DAY_S) or max(start, end) > DAY_S:  # 24-0 is empty, 0-24 is not
        raise ConfigError(
            f"politeness.servers has the hours '{text}', which is no part of a day: "
            "write from-to in UTC, as '20-6' for the night."
        )
    if start < end:
        return ((start, end),)
    return tuple(part for part in ((start, float(DAY_S)), (0.0, end)) if part[0] < part[1])


def both_hours(left: Hours, right: Hours) -> Hours:
    """When both allow it; no hours are all hours."""
    if not left or not right:
        return left or right
    both = [(max(a, c), min(b, d)) for a, b in left for c, d in right]
    common = tuple(sorted((start, end) for start, end in both if start < end))
    if not common:
        raise ConfigError(
            "politeness.servers gives servers of one group hours that never meet "
            f"({_told(left)} and {_told(right)}): let them overlap."
        )
    return common


def _told(hours: Hours) -> str:
    """As they are written: `22:00-24:00 and 0:00-6:00`."""
    return " and ".join(
        "-".join(f"{int(s // 3600)}:{int(s % 3600 // 60):02}" for s in span) for span in hours
    )
