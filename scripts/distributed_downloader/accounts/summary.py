"""`summary.json`: the ledger and what the waves wrote down, in numbers for people and the report.

rows, states          the ledger; rows is the input's
rejected              rows that cannot be fetched, were not selected or denied, by reason
repairs               URLs that were mended, by word; one may count under several
errors                by class and state: rows, servers, what the class means
removals              by tool and reason: rows, and whether they are fetched again (refetch)
given_up, policy      what is final without an image and why; what rules cost, and their setting
servers, groups       rows by server; limits, peaks, refusals and blocks by group
waves, timeline       seconds, ranks, images, requests, bytes; images over time
copied                images that were copied from previous_output
unchanged, tombstones images of which servers said, when asked again, that they are the same; rows
                      that the list has no more, by reason
left, blocked         rows that are not final; groups that must not be asked now
lower_bound_s, used_s seconds that politeness alone costs by the first plan, and really used
node_hours            of finished waves: used, and idle (no rank of the node had anything to do)
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from distributed_downloader.accounts.counts import Counts
from distributed_downloader.accounts.history import (
    by_group,
    known_profiles,
    read_learned,
    read_waves,
)
from distributed_downloader.durable import read_json, write_json
from distributed_downloader.paths import OutputPaths
from distributed_downloader.records import State
from distributed_downloader.settings import Settings
from distributed_downloader.storage.parts import COPIED_WAVE
from distributed_downloader.wording import SETTINGS, why

Summary = dict[str, Any]
GroupOf = Callable[[str], str]

FAILED = (State.FAILED_FINAL.value, State.FAILED_RETRYABLE.value, State.REFUSED.value)
GIVEN_UP = State.FAILED_FINAL.value
NAMED_SERVERS = 3


def write_summary(
    settings: Settings, counts: Counts, left: Mapping[str, Any], group_of: GroupOf
) -> Summary:
    """Write and return summary.json; `left` as in left.json."""
    summary = summarise(settings, counts, left, group_of)
    write_json(settings.paths.summary, summary)
    return summary


def read_summary(paths: OutputPaths) -> Summary | None:
    """What verify wrote last; None before."""
    value = read_json(paths.summary)
    return None if value is None else dict(value)


def summarise(
    settings: Settings, counts: Counts, left: Mapping[str, Any], group_of: GroupOf
) -> Summary:
    """Everything that summary.json says."""
    paths = settings.paths
    waves = read_waves(paths, counts.waves)
    plan = read_json(paths.wave(0) / "plan.json") or {}
    return {
        "written": time.time(),
        "input": settings.path_to_input,
        "output": str(paths.root),
        "rows": counts.rows,
        "states": counts.states,
        "rejected": _rejected(counts.servers),
        "repairs": _repairs(paths),
        "errors": _errors(counts.servers),
        "given_up": _given_up(counts.servers),
        "policy": _policy(counts.servers),
        "removals": counts.removals.sort("rows", "tool", descending=[True, False]).to_dicts(),
        "servers": _servers(counts.servers, known_profiles(paths), group_of),
        "groups": by_group(read_learned(paths)),
        "waves": waves,
        "timeline": {
            "width_s": counts.timeline.width_s,
            "images": [list(item) for item in counts.timeline.images.items()],
        },
        "left": {key: left[key] for key in ("left", "pending", "retryable", "free_at")},
        "blocked": [{"group": group, **block} for group, block in left["groups"].items()],
        "copied": counts.waves[COPIED_WAVE].images if COPIED_WAVE in counts.waves else 0,
        "unchanged": sum(wave.unchanged for wave in counts.waves.values()),
        "tombstones": _tombstones(paths),
        "samples": asdict(counts.waves[-1])["images"] if -1 in counts.waves else 0,
        "lower_bound_s": plan.get("lower_bound_s"),
        "bound_group": plan.get("bound_group"),
        "used_s": sum(wave["seconds"] for wave in waves),
        "node_hours": {
            "used": sum(wave["node_hours"] for wave in waves),
            "idle": sum(wave["idle_node_hours"] for wave in waves),
        },
    }


def _repairs(paths: OutputPaths) -> dict[str, int]:
    """What partition counted."""
    return dict((read_json(paths.source) or {}).get("counts", {}).get("repairs", {}))


def _tombstones(paths: OutputPaths) -> dict[str, int]:
    """Rows that the list has no more, by reason."""
    if not paths.tombstones.is_file():
        return {}
    reasons = pl.scan_parquet(paths.tombstones).group_by("reason").len().sort("reason")
    return dict(reasons.collect().iter_rows())


def _rejected(servers: pl.DataFrame) -> list[dict[str, Any]]:
    rejected = servers.filter(pl.col("state") == State.REJECTED.value)
    table = rejected.select(pl.col("error_class").alias("reason"), "rows")
    return table.sort(["rows", "reason"], descending=[True, False]).to_dicts()


def _errors(servers: pl.DataFrame) -> list[dict[str, Any]]:
    table = (
        servers.filter(pl.col("state").is_in(FAILED))
        .group_by("error_class", "state")
        .agg(pl.col("rows").sum(), pl.col("server").n_unique().alias("servers"))
        .sort(["rows", "error_class", "state"], descending=[True, False, False])
    )
    return [{**row, "why": why(row["error_class"])} for row in table.iter_rows(named=True)]


def _given_up(servers: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows that are final without an image, by class, with the servers that have most of them."""
    table = (
        servers.filter(pl.col("state") == GIVEN_UP)
        .sort(["rows", "server"], descending=[True, False])
        .group_by("error_class", maintain_order=True)
        .agg(pl.col("rows").sum(), pl.len().alias("servers"), pl.col("server").alias("most"))
        .sort(["rows", "error_class"], descending=[True, False])
        .with_columns(pl.col("most").list.head(NAMED_SERVERS))
    )
    return [{**row, "why": why(row["error_class"])} for row in table.iter_rows(named=True)]


def _policy(servers: pl.DataFrame) -> list[dict[str, Any]]:
    """What robots.txt, opt-outs, the address guard and the ignored table cost, per server."""
    refused = servers.filter(pl.col("state") == State.REFUSED.value)
    ignored = (
        servers.filter(pl.col("state") == State.IGNORED.value)
        .group_by("server")
        .agg(pl.lit(State.IGNORED.value).alias("error_class"), pl.col("rows").sum())
    )
    columns = ["server", "error_class", "rows"]
    table = pl.concat([refused.select(columns), ignored.select(columns)])
    table = table.sort(["rows", "server", "error_class"], descending=[True, False, False])
    return [
        {**row, "why": _cause(row["error_class"]), "setting": _setting(row["error_class"])}
        for row in table.iter_rows(named=True)
    ]


def _cause(error_class: str | None) -> str:
    ignored = error_class == State.IGNORED.value
    return "the server is in the ignored table" if ignored else why(error_class)


def _setting(error_class: str | None) -> str:
    if error_class == State.IGNORED.value:
        return "output_structure.ignored_table"
    return next((key for word, key in SETTINGS.items() if word.value == error_class), "politeness")


def _servers(
    servers: pl.DataFrame,
    profiles: Mapping[str, Mapping[str, Any]],
    group_of: GroupOf,
) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    listed = servers.filter(pl.col("server").is_not_null())
    for server, state, error_class, rows in listed.iter_rows():
        profile = profiles.get(server, {})
        record = found.setdefault(
            server,
            {
                "server": server,
                "group": group_of(server),
                "rows": 0,
                "states": {},
                "errors": {},
                "rate_limit": profile.get("rate_limit"),
            },
        )
        record["rows"] += rows
        record["states"][state] = record["states"].get(state, 0) + rows
        if state in FAILED:
            word = error_class or "unknown"
            record["errors"][word] = record["errors"].get(word, 0) + rows
    return sorted(found.values(), key=lambda record: (-record["rows"], record["server"]))
