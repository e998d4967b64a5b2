"""Settings that are each allowed and contradict each other."""

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from distributed_downloader.schema import with_defaults

OWN_NAMES = frozenset(
    {
        "configs",
        "left.json",
        "ledger.parquet",
        "report.html",
        "robots",
        "run.lock",
        "summary.json",
        "writer.lock",
    }
)
FRAMING_HEADERS = frozenset({"connection", "content-length", "host", "transfer-encoding"})

Given = Mapping[str, Any]


def contradictions(given: Given) -> list[str]:
    """One sentence for each, of a config that the schema accepts."""
    config = with_defaults(given)
    return [
        *_paths(config),
        *_names(config["output_structure"]),
        *_header(config["downloader_parameters"]["header"]),
        *_times(config),
        *_politeness(config, given.get("politeness", {})),
        *_hosts(config["hosts"]),
    ]


def _paths(config: Given) -> Iterator[str]:
    if config["path_to_input"].rstrip("/") == config["path_to_output"].rstrip("/"):
        yield (
            f"path_to_input and path_to_output are both {config['path_to_input']}: "
            "give the dataset a folder of its own."
        )


def _names(structure: Given) -> Iterator[str]:
    for name, times in Counter(structure.values()).items():
        keys = " and ".join(
            f"output_structure.{key}" for key in structure if structure[key] == name
        )
        if times > 1:
            yield f"{keys} are both {name}: give each its own name."
        elif name in OWN_NAMES:
            yield f"{keys} is {name}, which the run itself writes: take another name."


def _header(header: str | Given) -> Iterator[str]:
    names = [header.partition(": ")[0]] if isinstance(header, str) else list(header)
    for name, times in Counter(map(str.lower, names)).items():
        if times > 1:
            yield f"downloader_parameters.header gives {name} {times} times: keep one."
        if name in FRAMING_HEADERS:
            yield f"downloader_parameters.header gives {name}, which each request sets itself."


def _times(config: Given) -> Iterator[str]:
    timeouts, backoff = config["timeouts"], config["politeness"]["backoff"]
    if timeouts["connect_s"] > timeouts["total_s"]:
        yield _above(
            "timeouts.connect_s", timeouts["connect_s"], "timeouts.total_s", timeouts["total_s"]
        )
    if backoff["first_s"] > backoff["max_s"]:
        first, most = "politeness.backoff.first_s", "politeness.backoff.max_s"
        yield _above(first, backoff["first_s"], most, backoff["max_s"])


def _above(low: str, low_value: float, high: str, high_value: float) -> str:
    return f"{low} is {low_value}, above {high} ({high_value}): it must not be."


def _politeness(config: Given, given: Given) -> Iterator[str]:
    section = config["politeness"]
    by_table = section["group_by"] == "table"
    if by_table and "group_table" not in section:
        yield "politeness.group_by is table, but politeness.group_table names none: give a file."
    if "group_table" in section and not by_table:
        yield (
            f"politeness.group_table is given, and politeness.group_by is {section['group_by']}: "
            "say `group_by: table`, or leave the table out."
        )
    limit = config["downloader_parameters"]["default_rate_limit"]
    if given.get("min_rate", 0) > limit:
        limit_key = "downloader_parameters.default_rate_limit"
        yield _above("politeness.min_rate", given["min_rate"], limit_key, limit)
    for pattern, server in section.get("servers", {}).items():
        yield from _server(f"politeness.servers.{pattern}", server)


def _server(key: str, server: Given) -> Iterator[str]:
    for low, high in (("min_rate", "rate_limit"), ("bytes_per_hour", "bytes_per_day")):
        if low in server and high in server and server[low] > server[high]:
            yield _above(f"{key}.{low}", server[low], f"{key}.{high}", server[high])


def _hosts(hosts: Given) -> Iterator[str]:
    for name, address in hosts.items():
        try:
            ipaddress.ip_address(address)
        except ValueError:
            yield f"hosts.{name} is {address!r}: allowed is an IP address."
