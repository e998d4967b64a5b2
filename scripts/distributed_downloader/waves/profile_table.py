"""profiles.csv as a plan reads it: what was measured, and what a person made of it.

1. A server's `rate_limit` is a person's once it is another than what profile wrote: the smaller of
   `configured_limit` and `measured_limit`. It is then the most that its group is asked for.
2. Else it is made anew from the config of today and what was measured: latency, Crawl-delay, and
   `measured_limit` where no sample was answered. An edited config holds without another look.
3. What is no number, or no server, is one sentence with its line. Empty cells say nothing.
"""

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader.courtesy.budgets import Budget
from distributed_downloader.courtesy.groups import groups_of
from distributed_downloader.errors import ConfigError
from distributed_downloader.paths import OutputPaths
from distributed_downloader.settings import Politeness
from distributed_downloader.tables import PROFILES

Profile = Mapping[str, Any]  # a line: PROFILES' columns, None where it says nothing

WAY_OUT = "mend the line, or delete the file to have the servers looked at again"
SAME = 1e-5  # relative: as many digits as are written
_POSITIVE = frozenset({"rate_limit", "configured_limit", "measured_limit"})


def read_profiles(paths: OutputPaths) -> dict[str, Profile]:
    """Server name -> its line. Raises ConfigError, one sentence, if the table makes no sense."""
    file = paths.profiles_table
    profiles: dict[str, Profile] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            lines = csv.DictReader(text, strict=True)
            while lines.fieldnames is not None and not lines.fieldnames:
                lines.fieldnames = None  # an empty line before the header
            _check_header(file, lines.fieldnames or ())
            for line in lines:
                row = _row(f"{file}, line {lines.line_num}", line)
                if row["server_name"] in profiles:
                    where = f"{file}, line {lines.line_num}"
                    raise ConfigError(f"{where} repeats {row['server_name']}: {WAY_OUT}.")
                profiles[row["server_name"]] = row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"Cannot read {file}: {error}; {WAY_OUT}.") from error
    return profiles


def _check_header(file: Path, names: Iterable[str]) -> None:
    missing = [name for name in ("server_name", "rate_limit") if name not in set(names)]
    if missing:
        raise ConfigError(
            f"{file} has no column {missing[0]}; its first line is {','.join(names)!r}, and should "
            f"name columns, separated by commas: {WAY_OUT}."
        )


def _row(where: str, line: Mapping[str | None, Any]) -> Profile:
    if None in line or None in line.values():
        raise ConfigError(f"{where} has not as many cells as the first line: {WAY_OUT}.")
    row = {name: _value(where, name, kind, line.get(name)) for name, kind in PROFILES.items()}
    if not row["server_name"]:
        raise ConfigError(f"{where} names no server: {WAY_OUT}.")
    return row


def _value(where: str, name: str, kind: pl.DataType | type[pl.DataType], text: str | None) -> Any:
    text = (text or "").strip()
    if not text:
        return None
    if kind == pl.String:
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or (name in _POSITIVE and value == 0):
        wanted = "a number above 0" if name in _POSITIVE else "a number"
        hint = " (a server that is not to be asked belongs into ignored.csv)" if value == 0 else ""
        raise ConfigError(f"{where}: {name} is {text!r}, not {wanted}{hint}: {WAY_OUT}.")
    return int(value) if kind == pl.Int64 else value


def is_edited(profile: Profile) -> bool:
    """Rule 1; a table of before it said what it measured is taken at its word."""
    written = [profile["configured_limit"], profile["measured_limit"]]
    known = [limit for limit in written if limit is not None]
    rate = profile["rate_limit"]
    return rate is not None and not (known and math.isclose(rate, min(known), rel_tol=SAME))


def edited_limits(profiles: Mapping[str, Profile], politeness: Politeness) -> dict[str, float]:
    """By group, what a person lets it be asked for (rule 1): also where no rows are left."""
    edited = {server: line["rate_limit"] for server, line in profiles.items() if is_edited(line)}
    limits: dict[str, float] = {}
    for server, group in groups_of(edited, politeness).items():
        limits[group] = min(edited[server], limits.get(group, math.inf))
    return limits


def measured_rate(profile: Profile, budget: Budget) -> float:
    """Rule 2: requests per second of an unedited server; `budget` is today's."""
    if profile["latency_s"] is not None:
        return float(min(budget.rate, budget.connections / max(profile["latency_s"], 0.001)))
    return float(min(budget.rate, profile["measured_limit"] or math.inf))


def group_limit(budget: Budget, profiles: Iterable[Profile], *, is_alive: bool = False) -> float:
    """Requests per second of a whole group.

    Its budget, which knows its Crawl-delays; at most what its liveliest server can carry (a dead
    one slows only its own rows); never faster than a person allows. Servers whose samples all
    failed start gently, until the group has answered a wave (`is_alive`).
    """
    known = list(profiles)
    edited = [row["rate_limit"] for row in known if is_edited(row)]
    carried = [
        measured_rate(row, budget)
        for row in known
        if not is_edited(row) and (row["success_count"] or not is_alive)
    ]
    return float(min([budget.rate, *edited, max([*carried, *edited], default=math.inf)]))
