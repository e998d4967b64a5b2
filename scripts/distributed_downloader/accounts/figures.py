"""Figures as plain geometry; the report's template draws them as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

WIDTH, HEIGHT = 720.0, 180.0  # of the bars' field, in SVG units
GAP = 1.5
TIME_TICKS = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle and what it says."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: int


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis, at x or at y."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars over time."""

    bars: Sequence[Bar]
    times: Sequence[Tick]
    values: Sequence[Tick]


def stack(parts: Mapping[str, int]) -> list[Bar]:
    """One bar, divided in proportion; labels are the keys, empty parts are left out."""
    total = sum(parts.values())
    bars: list[Bar] = []
    x = 0.0
    for label, value in parts.items():
        if value:
            width = WIDTH * value / total
            bars.append(Bar(round(x, 2), 0, round(width, 2), 28, label, value))
            x += width
    return bars


def bars_over_time(images: Mapping[int, int], width_s: int) -> Chart | None:
    """A bar for each stretch of `width_s` seconds, by the unix time it begins at; None if none."""
    if not images:
        return None
    first, last = min(images), max(images)
    count = (last - first) // width_s + 1
    top = nice_ceiling(max(images.values()))
    step = WIDTH / count
    bars = [
        Bar(
            x=round((start - first) / width_s * step, 2),
            y=round(HEIGHT * (1 - value / top), 2),
            width=round(max(step - GAP, step / 2), 2),
            height=round(HEIGHT * value / top, 2),
            label=clock(start, width_s * count),
            value=value,
        )
        for start, value in sorted(images.items())
    ]
    values = [Tick(round(HEIGHT * (1 - share), 2), f"{top * share:,.0f}") for share in (0.5, 1.0)]
    return Chart(bars, _times(first, width_s * count), values if top > 1 else values[1:])


def nice_ceiling(value: int) -> int:
    """The next of 1, 2, 4, 6, 8, 10, 20, ... at or above: half of it is a whole number too."""
    scale: int = 10 ** max(0, math.ceil(math.log10(max(value, 1))) - 1)
    return next(step * scale for step in (1, 2, 4, 6, 8, 10) if step * scale >= value)


def clock(unix_seconds: float, span_s: float) -> str:
    """A time as exactly as a span of this length asks for."""
    pattern = "%H:%M:%S" if span_s < 3600 else "%d %b %H:%M" if span_s < 604_800 else "%d %b %Y"
    return datetime.fromtimestamp(unix_seconds, UTC).strftime(pattern)


def _times(first: int, span_s: int) -> list[Tick]:
    shares = [number / TIME_TICKS for number in range(TIME_TICKS + 1)]
    return [Tick(WIDTH * share, clock(first + span_s * share, span_s)) for share in shares]
