"""What a group may be asked for: `politeness.servers` over the defaults, and what it must not say.

1. A key names a server (`host:port`, `host`), everything under a domain (`example.org`), or a
   pattern (`*.example.org`); a group's own name works too. Keys are laid over each other from the
   least to the most specific, setting by setting. They are spelled as `urls.entries` has them.
2. A group takes the strictest budget of its servers.
3. Every rate is multiplied by `rate_multiplier` (at most 1), and at most 1 / Crawl-delay.
"""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypeVar

from distributed_downloader.courtesy.groups import group_of, groups_in
from distributed_downloader.courtesy.hours import Hours, both_hours, hours_of
from distributed_downloader.errors import ConfigError
from distributed_downloader.settings import Politeness, Settings
from distributed_downloader.urls.authorities import host_of
from distributed_downloader.urls.entries import key_of, names_of, pattern_of

Entry = Mapping[str, Any]
Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a group that refused us is left alone (`politeness.backoff`)."""

    first_s: float = 10.0
    factor: float = 2.0
    max_s: float = 86_400.0
    forgive_after_s: float = 1800.0
    jitter: float = 0.1
    breaker_failures: int = 5


@dataclass(frozen=True, slots=True)
class Budget:
    """Everything that is counted for one group; None is no limit."""

    group: str
    rate: float  # requests per second, never exceeded
    burst: int = 1
    connections: int = 4
    bytes_per_s: float | None = None
    bytes_per_hour: float | None = None
    bytes_per_day: float | None = None
    hours: Hours = ()
    min_rate: float = 0.1  # requests per second: the floor of the learned rate
    backoff: Backoff = Backoff()

    @property
    def bytes_and_hours(self) -> tuple[float | Hours | None, ...]:
        """What `pace.Allowance` goes by."""
        return self.bytes_per_s, self.bytes_per_hour, self.bytes_per_day, self.hours

    def with_crawl_delay(self, delay_s: float | None) -> "Budget":
        """The same, no faster than one request per `delay_s` and without bursts."""
        if not delay_s:
            return self
        rate = min(self.rate, 1 / delay_s)
        return replace(self, rate=rate, burst=1, min_rate=min(self.min_rate, rate))


def stricter(one: Budget, other: Budget) -> Budget:
    """What holds for a group when both do; it stays the first one's group."""
    rate = min(one.rate, other.rate)
    return replace(
        one,
        rate=rate,
        burst=min(one.burst, other.burst),
        connections=min(one.connections, other.connections),
        bytes_per_s=_least_given(one.bytes_per_s, other.bytes_per_s),
        bytes_per_hour=_least_given(one.bytes_per_hour, other.bytes_per_hour),
        bytes_per_day=_least_given(one.bytes_per_day, other.bytes_per_day),
        hours=both_hours(one.hours, other.hours),
        min_rate=min(one.min_rate, other.min_rate, rate),
    )


def _least_given(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


@dataclass(frozen=True, slots=True)
class ServerRules:
    """What holds for one server, not for its group."""

    robots: str  # obey | crawl_delay_only | ignore
    opt_out_headers: tuple[str, ...]
    verify_tls: bool


def budget_of(
    group: str,
    servers: Iterable[str],
    settings: Settings,
    crawl_delays: Mapping[str, float] | None = None,
) -> Budget:
    """The strictest budget of the group's servers; `crawl_delays` (seconds) by server."""
    names = sorted(set(servers)) or [group]
    entries = [_entry_of(server, group, settings.politeness) for server in names]
    strictest = _Strictest(entries)
    politeness = settings.politeness
    share = min(settings.rate_multiplier, 1.0)
    rate = share * strictest.least("rate_limit", settings.default_rate_limit)
    budget = Budget(
        group=group,
        rate=rate,
        burst=strictest.least("burst", politeness.burst),
        connections=strictest.least("connections", politeness.default_connections),
        bytes_per_s=strictest.least_or_none("bytes_per_s"),
        bytes_per_hour=strictest.least_or_none("bytes_per_hour"),
        bytes_per_day=strictest.least_or_none("bytes_per_day"),
        hours=_common_hours(entries),
        min_rate=min(rate, strictest.least("min_rate", politeness.min_rate)),
        backoff=backoff_of(politeness),
    )
    return budget.with_crawl_delay(_longest_delay(names, settings, crawl_delays or {}))


def backoff_of(politeness: Politeness) -> Backoff:
    """The part of the settings that back-off needs."""
    return Backoff(
        first_s=politeness.first_s,
        factor=politeness.factor,
        max_s=politeness.max_s,
        forgive_after_s=politeness.forgive_after_s,
        jitter=politeness.jitter,
        breaker_failures=politeness.breaker_failures,
    )


def rules_of(server: str, settings: Settings) -> ServerRules:
    """What robots.txt, opt-outs and certificates mean at this server."""
    politeness = settings.politeness
    entry = _entry_of(server, None, politeness)
    return ServerRules(
        robots=entry.get("robots", politeness.robots),
        opt_out_headers=tuple(entry.get("opt_out_headers", politeness.opt_out_headers)),
        verify_tls=entry.get("verify_tls", True),
    )


class _Strictest:
    """The smallest value that the entries of a group's servers give."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def least(self, key: str, default: Number) -> Number:
        values: list[Number] = [entry.get(key, default) for entry in self._entries]
        return min(values)

    def least_or_none(self, key: str) -> float | None:
        return min((entry[key] for entry in self._entries if key in entry), default=None)


def _longest_delay(
    servers: Iterable[str], settings: Settings, delays: Mapping[str, float]
) -> float | None:
    heard = (s for s in servers if s in delays and rules_of(s, settings).robots != "ignore")
    return max((delays[server] for server in heard), default=None)


def _entry_of(server: str, group: str | None, politeness: Politeness) -> Entry:
    """All keys that match, the most specific last so that it wins."""
    own = None if group is None else key_of(group)
    ranked = [(_specificity(key, server, own), key) for key in politeness.servers]
    matching = sorted((rank, key) for rank, key in ranked if rank is not None)
    return {k: v for _, key in matching for k, v in politeness.servers[key].items()}


def _specificity(key: str, server: str, group: str | None) -> tuple[int, int] | None:
    """How closely the key names the server, None if it does not."""
    host = host_of(server)
    if "*" in key:
        literal = key.replace("*", "").strip(".")
        return (1, 2 * len(literal) + 1) if fnmatch.fnmatchcase(host, key) else None
    if key not in names_of(server):
        return (0, 0) if key == group else None
    if key == host:
        return (2, 0)
    return (1, 2 * len(key)) if host.endswith(f".{key}") else (3, 0)


def _common_hours(entries: Iterable[Entry]) -> Hours:
    """When every server of the group may be asked."""
    hours = (hours_of(entry["hours"]) for entry in entries if "hours" in entry)
    return reduce(both_hours, hours, ())


def check_budgets(settings: Settings) -> None:
    """Raise ConfigError, one sentence, if the politeness settings contradict themselves."""
    politeness = settings.politeness
    _refuse_if(
        politeness.first_s > politeness.max_s,
        f"politeness.backoff.first_s {politeness.first_s} is over max_s {politeness.max_s}: "
        "make it the smaller of the two.",
    )
    _refuse_if(
        (politeness.group_by == "table") != (politeness.group_table is not None),
        f"politeness.group_by is '{politeness.group_by}' and group_table is "
        f"{politeness.group_table}: give a table with group_by 'table', and only then.",
    )
    for key, entry in politeness.servers.items():
        _check_entry(key, entry)
    _check_groups(settings)


def _check_groups(settings: Settings) -> None:
    """The table can be read, keys mean somebody, and entries of one group can hold at once."""
    politeness = settings.politeness
    if politeness.group_table is not None:
        _check_keys(politeness.servers, groups_in(politeness.group_table))
    with_hours = [key for key, entry in politeness.servers.items() if "hours" in entry]
    named: dict[str, list[Entry]] = {}
    for key in with_hours:
        named.setdefault(group_of(key.lstrip("*."), politeness), []).append(politeness.servers[key])
    for entries in named.values():
        _common_hours(entries)


def _check_keys(keys: Iterable[str], groups: Iterable[str]) -> None:
    """Each is a group's own name or a server's: other words would be limits for nobody."""
    named = {key_of(group) for group in groups}
    for key in keys:
        if key not in named:
            pattern_of(key, "politeness.servers, where group_table has no such group,")


def _check_entry(key: str, entry: Entry) -> None:
    where = f"politeness.servers['{key}']"
    if "hours" in entry:
        hours_of(entry["hours"])
    for small, large in (("min_rate", "rate_limit"), ("bytes_per_hour", "bytes_per_day")):
        _refuse_if(
            small in entry and large in entry and entry[small] > entry[large],
            f"{where}: {small} {entry.get(small)} is over {large} {entry.get(large)}, "
            "so one of them can never hold: make it the smaller of the two.",
        )
    for name in ("rate_limit", "burst", "connections", "bytes_per_s"):
        _refuse_if(
            name in entry and entry[name] <= 0,
            f"{where}: {name} {entry.get(name)} allows no request at all: "
            "give a positive number, or list the server in the ignored table.",
        )


def _refuse_if(is_wrong: bool, sentence: str) -> None:
    if is_wrong:
        raise ConfigError(sentence)
