"""Where the list and the dataset may lie, and which names in the output folder are taken."""

from pathlib import Path

import pytest

from distributed_downloader.configuration.sense import OWN_NAMES, contradictions
from distributed_downloader.paths import OUTPUT_STRUCTURE, OutputPaths
from distributed_downloader.toolbox.export_croissant import FILE as CROISSANT

GLOBS = [
    ("data/**/*.csv", "data/out", True),
    ("data/**", "data/deep/out", True),
    ("data/*.csv", "data", True),
    ("data/*/*", "data/out", True),
    ("d*/*/*.json", "data/out", True),
    ("data/*.csv", "data/out", False),
    ("data/*", "data/out", False),
    ("data/*/list.csv", "data/out", False),
    ("data/part-*/**/*.csv", "data/out", False),
    ("data/**/*.csv", "data/.hidden/out", False),
    ("out/lists/*.csv", "out", False),
    ("data/**/*.csv", "out", False),
    ("s3://data/**/*.csv", "data/out", False),
]


@pytest.mark.parametrize(("glob", "output", "is_refused"), GLOBS)
def test_a_glob_that_means_what_the_run_writes_is_refused(
    glob: str, output: str, is_refused: bool
) -> None:
    said = contradictions({"path_to_input": glob, "path_to_output": output})
    assert ["narrower glob" in each for each in said] == [True] * is_refused


def test_every_name_in_the_output_folder_is_kept_from_the_settings(tmp_path: Path) -> None:
    paths = OutputPaths.of(tmp_path)
    held = [getattr(paths, name) for name in dir(OutputPaths) if not name.startswith("_")]
    here = {path.name for path in held if isinstance(path, Path) and path.parent == tmp_path}
    assert here - set(OUTPUT_STRUCTURE.values()) == OWN_NAMES - {CROISSANT}
    assert CROISSANT in OWN_NAMES


@pytest.mark.parametrize("key", ["path_to_output", "previous_output"])
def test_a_folder_with_a_bracket_is_refused(key: str) -> None:
    config = {"path_to_input": "urls.txt", "path_to_output": "out", key: "images[2024]"}
    (said,) = contradictions(config)
    assert said.startswith(f"{key} is images[2024]: ")
