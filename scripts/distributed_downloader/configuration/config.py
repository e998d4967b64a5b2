"""From what a user wrote to the settings of a run.

given (YAML, --config) -> resolve_config -> effective config (plain, complete, absolute paths)
    -> write_effective_config -> CONFIG_PATH -> load_settings -> Settings
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from distributed_downloader.configuration.effective import write_effective_config
from distributed_downloader.configuration.environment import environment_of
from distributed_downloader.configuration.identity import check_identity
from distributed_downloader.configuration.names import hosts_by_name, servers_by_name
from distributed_downloader.configuration.schema import (
    plain,
    problems,
    schema,
    typed,
    with_defaults,
)
from distributed_downloader.configuration.sense import contradictions
from distributed_downloader.errors import ConfigError
from distributed_downloader.paths import OutputPaths
from distributed_downloader.settings import Filters, Flush, Images, Politeness, Settings, Timeouts

__all__ = [
    "check_identity",
    "environment_of",
    "load_settings",
    "notices",
    "resolve_config",
    "settings_of",
    "write_effective_config",
]

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # of a list that lives elsewhere
IGNORED_KEYS = ("scripts", "schedule_rules")
MAX_PROBLEMS = 5


def resolve_config(given: Mapping[str, Any]) -> dict[str, Any]:
    """The effective config: checked, complete, with absolute paths.

    Resolving it again changes nothing. Raises ConfigError, a line for each of the first problems.
    """
    config = {key: value for key, value in _renamed(plain(given)).items() if value != ""}
    config = typed(config)
    _cut_multiplier(config)
    _refuse([*problems(config), *_missing(config)])
    for key in IGNORED_KEYS:
        config.pop(key, None)
    _make_paths_absolute(config)
    _refuse(contradictions(config))
    config = with_defaults(config)
    _settle(config)
    return config


def notices(given: Mapping[str, Any]) -> list[str]:
    """What a user should know of a config that is accepted but means something else here."""
    config = typed(plain(given))
    found = [f"{key} is accepted and ignored." for key in IGNORED_KEYS if key in config]
    parameters = _section(config, "downloader_parameters")
    share = parameters.get("rate_multiplier", 1)
    if isinstance(share, int | float) and share > 1:
        found.append(
            f"downloader_parameters.rate_multiplier is the share of every limit that is used: "
            f"{share} is cut to 1."
        )
    waves = parameters.get("num_downloads", 0)
    if waves:
        found.append(f"downloader_parameters.num_downloads: this run ends after {waves} waves.")
    jobs = _section(config, "tools_parameters").get("num_workers", 0)
    if jobs:
        found.append(f"tools_parameters.num_workers: a tool ends after {jobs} jobs in this run.")
    return found


def load_settings(path: Path) -> Settings:
    """The settings in a config file (JSON or YAML), effective or as a user wrote it."""
    try:
        text = path.read_text(encoding="utf-8")
        # to YAML 1.1 the number 1e-09, as JSON writes it, is a word
        loaded = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"Cannot read the config {path}: {reason}") from error
    if not isinstance(loaded, Mapping):
        raise ConfigError(f"The config {path} is no mapping of settings: write `key: value` lines.")
    return settings_of(resolve_config(loaded))


def settings_of(config: Mapping[str, Any]) -> Settings:
    """The settings of a config that `resolve_config` made."""
    down = config["downloader_parameters"]
    same = {key: down[key] for key in _SAME_NAME}
    paths = OutputPaths.of(Path(config["path_to_output"]), config["output_structure"])
    return Settings(
        **same,
        path_to_input=config["path_to_input"],
        input_options=config["input_options"],
        paths=paths,
        account=config["account"],
        initializer_type=config["initializer_type"],
        included_sources=tuple(config["included_sources"]),
        excluded_servers_path=_path(config.get("excluded_servers_path")),
        filters=_filters(config["filters"]),
        columns=config["columns"],
        previous_output=_path(config.get("previous_output")),
        gone_rows=config["gone_rows"],
        revalidate_days=_days(config["revalidate"]),
        retry_failed=tuple(sorted(config["retry_failed"])),
        suppress_unchanged_error=config["suppress_unchanged_error"],
        verify=config["verify"],
        profile_samples=config["profile"]["samples"],
        retries_per_row=config["retries"]["per_row"],
        retries_waves=config["retries"]["waves"],
        hosts=config["hosts"],
        proxy=config["proxy"],
        idle_nodes_s=config["idle_nodes_s"],
        tools=tuple(config["tools"]),
        politeness=_politeness(config["politeness"], paths),
        images=Images(image_size=down["image_size"], **config["images"]),
        timeouts=Timeouts(**config["timeouts"]),
        flush=Flush(**config["flush"]),
        raw=config,
    )


_SAME_NAME = (
    "header",
    "batch_size",
    "num_downloads",
    "max_nodes",
    "workers_per_node",
    "cpu_per_worker",
    "logger_level",
    "default_rate_limit",
    "rate_multiplier",
)


def _filters(section: Mapping[str, Any]) -> Filters:
    lists = {name: tuple(section[name]) for name in ("licenses", "servers", "servers_excluded")}
    return Filters(**lists, where=section["where"])


def _path(given: str | None) -> Path | None:
    return Path(given) if given else None


def _days(revalidate: str | Mapping[str, float]) -> float | None:
    return None if isinstance(revalidate, str) else revalidate["older_than_days"]


def _politeness(section: Mapping[str, Any], paths: OutputPaths) -> Politeness:
    own = {key: section[key] for key in section if key not in ("group_table", "backoff")}
    own["opt_out_headers"] = tuple(section["opt_out_headers"])
    return Politeness(
        group_table=_path(section.get("group_table")),
        address_book=paths.address_book,
        **own,
        **section["backoff"],
    )


def _refuse(found: list[str]) -> None:
    if not found:
        return
    more = len(found) - MAX_PROBLEMS
    lines = found[:MAX_PROBLEMS] + ([f"... and {more} more."] if more > 0 else [])
    raise ConfigError("\n".join(lines))


def _section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def _renamed(config: dict[str, Any]) -> dict[str, Any]:
    """The predecessor's path_to_output_folder is our path_to_output."""
    other = config.pop("path_to_output_folder", None)
    if other is None:
        return config
    if config.setdefault("path_to_output", other) != other:
        raise ConfigError(
            "path_to_output and path_to_output_folder are two names of one setting and differ "
            f"({config['path_to_output']} and {other}): keep one."
        )
    return config


def _missing(config: Mapping[str, Any]) -> list[str]:
    missing = [key for key in schema()["required"] if key not in config]
    if not missing:
        return []
    return [
        f"No {' and no '.join(missing)}: say where the list of image URLs is and where the dataset "
        "goes, in a config of your own (`--configfile my.yaml`, the template is "
        "config/config.yaml) or as `--config path_to_input=urls.txt path_to_output=out`."
    ]


def _cut_multiplier(config: dict[str, Any]) -> None:
    """The predecessor's band around the rate is our share of it: never more than all."""
    section = _section(config, "downloader_parameters")
    share = section.get("rate_multiplier")
    if isinstance(share, int | float) and not isinstance(share, bool) and share > 1:
        section["rate_multiplier"] = 1


def _make_paths_absolute(config: dict[str, Any]) -> None:
    for key in ("path_to_input", "path_to_output", "previous_output"):
        if key in config and (key != "path_to_input" or not ADDRESS.match(config[key])):
            config[key] = _absolute(config[key])
    places = (
        ("politeness", "group_table"),
        ("tools_parameters", "folder"),
        ("tools_parameters", "export_target"),
        ("", "excluded_servers_path"),
    )
    for section, key in places:
        held = config.get(section, {}) if section else config
        is_address = key == "export_target" and ADDRESS.search(held.get(key, ""))
        if held.get(key) and not is_address:
            held[key] = _absolute(held[key])


def _settle(config: dict[str, Any]) -> None:
    """Make the header a mapping and names those of URLs, the default floor at most the limit."""
    parameters, politeness = config["downloader_parameters"], config["politeness"]
    limit = parameters["default_rate_limit"] * parameters["rate_multiplier"]
    politeness["min_rate"] = min(politeness["min_rate"], limit)
    parameters["header"] = _headers(parameters["header"])
    politeness["servers"] = servers_by_name(politeness)
    config["hosts"] = hosts_by_name(config["hosts"])


def _absolute(path: str) -> str:
    """From the working directory of the run; `~` is a home, if it is anybody's."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - no such user is no error


def _headers(header: str | Mapping[str, str]) -> dict[str, str]:
    """The header setting as names and values, with a User-Agent in that spelling."""
    if isinstance(header, str):
        name, _, value = header.partition(": ")
        header = {name: value}
    given = {
        "User-Agent" if name.lower() == "user-agent" else name: header[name] for name in header
    }
    return {**_default_header(), **given}


def _default_header() -> dict[str, str]:
    """The User-Agent of runs that name none (and may therefore ask private servers alone)."""
    node = schema()["properties"]["downloader_parameters"]["properties"]["header"]
    default: dict[str, str] = node["default"]
    return default
