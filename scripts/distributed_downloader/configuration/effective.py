"""The effective config as a file whose name is its content, so that nothing ever rewrites it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed_downloader.durable import write_json


def effective_path(config: Mapping[str, Any], folder: Path) -> Path:
    """Where in the folder this config lies; the same settings always have the same name."""
    text = json.dumps(config, sort_keys=True, ensure_ascii=False)
    return folder / f"config-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def write_effective_config(config: Mapping[str, Any], folder: Path) -> Path:
    """Write it unless it is there already; the folder of a run is `OutputPaths.configs`."""
    path = effective_path(config, folder)
    if not path.exists():
        write_json(path, config)
    return path
