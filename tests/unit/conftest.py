"""Settings for tests: a minimal config, resolved as a user's would be."""

from pathlib import Path
from typing import Any

import pytest

from distributed_downloader.configuration.config import resolve_config, settings_of
from distributed_downloader.settings import Settings


def make_settings(tmp_path: Path, **overrides: Any) -> Settings:
    """Settings with output in `tmp_path/out`; overrides are config sections, merged deep.

    make_settings(tmp_path, downloader_parameters={"image_size": 0}, hosts={"a.test": "127.0.0.2"})
    """
    minimal = {
        "path_to_input": str(tmp_path / "urls.txt"),
        "path_to_output": str(tmp_path / "out"),
        "politeness": {"allow_private_addresses": True},
    }
    return settings_of(resolve_config(merged(minimal, overrides)))


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, section by section."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        result[key] = merged(old, value) if both else value
    return result


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The defaults, for loopback servers."""
    return make_settings(tmp_path)
