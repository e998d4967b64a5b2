"""The config that is enough, with more laid on it: resolved, or refused."""

from typing import Any

import pytest

from distributed_downloader.configuration.config import resolve_config
from distributed_downloader.errors import ConfigError
from tests.unit.conftest import merged

MINIMAL: dict[str, Any] = {"path_to_input": "urls.txt", "path_to_output": "out"}


def resolved(**more: Any) -> dict[str, Any]:
    return resolve_config(merged(MINIMAL, more))


def refusal(config: Any) -> str:
    with pytest.raises(ConfigError) as error:
        resolve_config(config)
    return str(error.value)


def down(**parameters: Any) -> dict[str, Any]:
    return {"downloader_parameters": parameters}
