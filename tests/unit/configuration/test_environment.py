from pathlib import Path

import pytest

from distributed_downloader.configuration.config import (
    environment_of,
    load_settings,
    write_effective_config,
)
from distributed_downloader.configuration.environment import TOOL_KEYS
from distributed_downloader.configuration.schema import schema
from distributed_downloader.paths import OUTPUT_STRUCTURE
from tests.unit.configuration.minimal_config import down
from tests.unit.conftest import make_settings

COMMON = {"CONFIG_PATH", "ACCOUNT", "PATH_TO_INPUT", "PATH_TO_OUTPUT"} | {
    f"OUTPUT_{key.upper()}" for key in OUTPUT_STRUCTURE
}
SECTIONS = schema()["properties"]
TEN = {f"DOWNLOADER_{key.upper()}" for key in SECTIONS["downloader_parameters"]["properties"]}
SIX = {f"TOOLS_{key.upper()}" for key in TOOL_KEYS}
STAGES = [
    ("partition", TEN),
    ("profile", TEN),
    ("schedule", TEN),
    ("download", TEN),
    ("verify", TEN),
    ("report", set()),
    ("tools", SIX),
]


@pytest.mark.parametrize(("stage", "own"), STAGES)
def test_jobs_get_the_variables_of_their_stage(settings, stage, own):
    assert (len(TEN), len(SIX)) == (10, 6)
    assert set(environment_of(settings, stage)) == COMMON | own


def test_variables_hold_absolute_paths_and_plain_words(settings, tmp_path):
    settings = make_settings(tmp_path, **down(header="User-Agent: a"))
    variables = environment_of(settings, "download")
    paths = [value for key, value in variables.items() if "PATH" in key or "OUTPUT" in key]
    assert all(Path(path).is_absolute() for path in paths)
    assert variables["DOWNLOADER_BATCH_SIZE"] == "10000"
    assert variables["DOWNLOADER_HEADER"] == "User-Agent: a"


def test_config_path_is_where_the_run_writes_its_config(settings):
    written = write_effective_config(settings.raw, settings.paths.configs)
    assert environment_of(settings, "report")["CONFIG_PATH"] == str(written)
    assert load_settings(written) == settings
