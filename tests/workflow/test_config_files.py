"""What a run's settings are made of, and what of them its jobs get."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from distributed_downloader.configuration.config import resolve_config
from distributed_downloader.configuration.effective import effective_path
from distributed_downloader.fleet.plan import HostPlan
from distributed_downloader.paths import OutputPaths
from tests.workflow.conftest import CHECKOUT, run_snakemake

FIVE_LINES = """\
path_to_input: {folder}/urls.txt
path_to_output: {folder}/out
downloader_parameters:
  header:
    User-Agent: my-project (mailto:me@my-university.edu)
"""
MARK = 4321  # what the altered template says, and no default does


@pytest.fixture
def altered_house(tmp_path: Path) -> Path:
    """A copy of the checkout whose template says something else than the defaults."""
    house = tmp_path / "house"
    for part in ("config", "profiles", "rules", "scripts", "workflow"):
        shutil.copytree(
            CHECKOUT / part,
            house / part,
            ignore=shutil.ignore_patterns("__pycache__", ".snakemake"),
        )
    template = house / "config" / "config.yaml"
    text = template.read_text()
    changed = text.replace("batch_size: 10000", f"batch_size: {MARK}")
    changed = changed.replace("robots: obey", "robots: ignore", 1)
    assert text.count("batch_size: 10000") == text.count("  robots: obey") - 1 == 1
    template.write_text(changed)
    return house


def test_a_config_of_five_lines_inherits_nothing_from_the_template(tmp_path, altered_house):
    paths = OutputPaths.of(tmp_path / "out")
    (tmp_path / "urls.txt").write_text("http://images.example.org/a.jpg\n")
    config = tmp_path / "five.yaml"
    config.write_text(FIVE_LINES.format(folder=tmp_path))
    expected = resolve_config(yaml.safe_load(config.read_text()))

    words = [str(paths.partitions), "--profile", "profiles/local", "--configfile", str(config)]
    done = run_snakemake(*words, cwd=altered_house)
    assert done.returncode == 0, done.stdout
    [file] = paths.configs.iterdir()
    assert file == effective_path(expected, paths.configs)
    assert json.loads(file.read_text()) == expected


def test_settings_without_a_file_are_enough_and_jobs_get_them_as_variables(start_fleet, tmp_path):
    fleet = start_fleet(
        HostPlan(name="a.museum.test", address="127.0.12.2", images=3, photos="tiny"),
    )
    (tmp_path / "urls.txt").write_text("\n".join(fleet.urls()) + "\n")
    seen = tmp_path / "variables.json"
    launcher = tmp_path / "mpiexec-that-tells"
    launcher.write_text(
        "#!/usr/bin/env python3\nimport json, os, sys\n"
        f"json.dump(dict(os.environ), open({str(seen)!r}, 'w'))\n"
        "os.execvp('mpiexec', ['mpiexec', *sys.argv[1:]])\n"
    )
    launcher.chmod(0o755)

    done = run_snakemake(
        *("--profile", "profiles/local", "--set-resources", f"download_images:mpi={launcher}"),
        *("--config", f"path_to_input={tmp_path}/urls.txt", f"path_to_output={tmp_path}/out"),
        "politeness={allow_private_addresses: true}",
        f"hosts={{a.museum.test: {fleet.hosts['a.museum.test']}}}",
    )
    assert done.returncode == 0, done.stdout
    assert "3  of 3 rows" in done.stdout
    out = OutputPaths.of(tmp_path / "out")
    [config] = out.configs.iterdir()
    variables = json.loads(seen.read_text())
    assert {name: variables.get(name) for name in PATHS} == {
        name: str(tmp_path / place) for name, place in PATHS.items()
    }
    assert variables["CONFIG_PATH"] == str(config)
    assert variables["ACCOUNT"] == ""
    parameters = json.loads(config.read_text())["downloader_parameters"]
    assert {name for name in variables if name.startswith("DOWNLOADER_")} - {"DOWNLOADER_RUN"} == {
        f"DOWNLOADER_{key.upper()}" for key in parameters
    }
    assert variables["DOWNLOADER_BATCH_SIZE"] == "10000"
    assert variables["DOWNLOADER_HEADER"] == "User-Agent: polite-image-downloader"
    assert not [name for name in variables if name.startswith("TOOLS_")]


PATHS = {
    "PATH_TO_INPUT": "urls.txt",
    "PATH_TO_OUTPUT": "out",
    "OUTPUT_URLS_FOLDER": "out/urls",
    "OUTPUT_LOGS_FOLDER": "out/logs",
    "OUTPUT_IMAGES_FOLDER": "out/images",
    "OUTPUT_SCHEDULES_FOLDER": "out/schedules",
    "OUTPUT_PROFILES_TABLE": "out/profiles.csv",
    "OUTPUT_IGNORED_TABLE": "out/ignored.csv",
    "OUTPUT_INNER_CHECKPOINT_FILE": "out/checkpoint.json",
    "OUTPUT_TOOLS_FOLDER": "out/tools",
}
