"""The variables that jobs find their run by, also through sbatch and srun, in any language."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed_downloader.configuration.effective import effective_path
from distributed_downloader.settings import Settings

DOWNLOAD_STAGES = frozenset({"partition", "profile", "schedule", "download", "verify"})
TOOL_STAGE = "tools"
TOOL_KEYS = (  # of tools_parameters: what the predecessor's tools are told
    *("num_workers", "max_nodes", "workers_per_node", "cpu_per_worker"),
    *("threshold_size", "new_resize_size"),
)
CONFIG_VARIABLE = "CONFIG_PATH"  # of the effective config


def environment_of(settings: Settings, stage: str) -> dict[str, str]:
    """The variables of a job of this stage; paths are absolute.

    Stages: those of DOWNLOAD_STAGES get DOWNLOADER_<KEY>, "tools" gets TOOLS_<KEY>, others neither.
    """
    variables = _paths(settings)
    if stage in DOWNLOAD_STAGES:
        variables |= _section("DOWNLOADER", settings.raw["downloader_parameters"])
    if stage == TOOL_STAGE:
        own = settings.raw["tools_parameters"]
        variables |= _section("TOOLS", {key: own[key] for key in TOOL_KEYS})
    return variables


def search_path() -> str:
    """PATH with the interpreter's own folder first: that is where its MPI launcher lies."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _paths(settings: Settings) -> dict[str, str]:
    paths = settings.paths
    return {
        CONFIG_VARIABLE: str(effective_path(settings.raw, paths.configs)),
        "ACCOUNT": settings.account,
        "PATH_TO_INPUT": settings.path_to_input,
        "PATH_TO_OUTPUT": str(paths.root),
        "OUTPUT_URLS_FOLDER": str(paths.urls),
        "OUTPUT_LOGS_FOLDER": str(paths.logs),
        "OUTPUT_IMAGES_FOLDER": str(paths.images),
        "OUTPUT_SCHEDULES_FOLDER": str(paths.schedules),
        "OUTPUT_PROFILES_TABLE": str(paths.profiles_table),
        "OUTPUT_IGNORED_TABLE": str(paths.ignored_table),
        "OUTPUT_INNER_CHECKPOINT_FILE": str(paths.checkpoint),
        "OUTPUT_TOOLS_FOLDER": str(paths.tools),
    }


def _section(prefix: str, section: Mapping[str, Any]) -> dict[str, str]:
    return {f"{prefix}_{key.upper()}": _text(value) for key, value in section.items()}


def _text(value: Any) -> str:
    """A lone header as `Name: value`, as configs write it; other structures as JSON."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, text),) = value.items()
        return f"{name}: {text}"
    return value if isinstance(value, str) else json.dumps(value)
