"""Settings that are each allowed and contradict each other (for politeness: `budgets`)."""

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from distributed_downloader.configuration.schema import with_defaults

OWN_NAMES = frozenset(
    {
        "CREDITS-datasets.csv",
        "CREDITS.csv",
        "CREDITS.parquet",
        "addresses.json",
        "again.json",
        "configs",
        "croissant.json",
        "left.json",
        "ledger.parquet",
        "report.html",
        "robots",
        "run.lock",
        "summary.json",
        "verified.parquet",
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
        *_limits(config, given),
        *_hosts(config["hosts"]),
    ]


def _paths(config: Given) -> Iterator[str]:
    yield from _bracketed(config)
    source, target = config["path_to_input"], Path(config["path_to_output"])
    if "://" not in source:
        yield from _overlap(Path(source), target, config["output_structure"])
    if config.get("previous_output") == config["path_to_output"]:
        yield (
            f"previous_output is path_to_output itself ({target}): a list that has changed goes on "
            "in its folder without that, or give another path_to_output."
        )


def _bracketed(config: Given) -> Iterator[str]:
    for key in ("path_to_output", "previous_output"):
        if "[" in config.get(key, ""):
            yield (
                f"{key} is {config[key]}: what reads the tables there takes [ for a wildcard, so "
                "take a folder without it."
            )


def _overlap(source: Path, target: Path, structure: Given) -> Iterator[str]:
    if target.is_relative_to(source):
        yield (
            f"path_to_output ({target}) is path_to_input or lies in it, so that the dataset would "
            "be read as a list of URLs: take a folder beside it."
        )
        return
    written = OWN_NAMES.union(structure.values())
    if any(_reaches(source.parts, (target / name).parts) for name in written):
        yield (
            f"path_to_input ({source}) also means what the run writes in path_to_output "
            f"({target}), which would be read as lists of URLs: take a folder beside the lists, or "
            "a narrower glob."
        )


def _reaches(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a glob means this path or something below it; both as their parts."""
    if not path or not pattern:
        return not path
    is_shown = pattern[0].startswith(".") or not path[0].startswith(".")
    if pattern[0] == "**":
        return _reaches(pattern[1:], path) or (is_shown and _reaches(pattern, path[1:]))
    is_meant = is_shown and fnmatchcase(path[0], pattern[0])
    return is_meant and _reaches(pattern[1:], path[1:])


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


def _limits(config: Given, given: Given) -> Iterator[str]:
    timeouts = config["timeouts"]
    if timeouts["connect_s"] > timeouts["total_s"]:
        total = f"timeouts.total_s ({timeouts['total_s']})"
        yield f"timeouts.connect_s is {timeouts['connect_s']}: allowed is no more than {total}."
    limit = config["downloader_parameters"]["default_rate_limit"]
    floor = given.get("politeness", {}).get("min_rate", 0)
    if floor > limit:
        limit_text = f"downloader_parameters.default_rate_limit ({limit})"
        yield f"politeness.min_rate is {floor}: allowed is no more than {limit_text}."


def _hosts(hosts: Given) -> Iterator[str]:
    for name, address in hosts.items():
        try:
            ipaddress.ip_address(address)
        except ValueError:
            yield f"hosts.{name} is {address!r}: allowed is an IP address."
