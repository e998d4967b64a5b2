"""What is built from the checkout works elsewhere, and all lists of dependencies agree."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from distributed_downloader.fleet.plan import HostPlan

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.M)
HOUSE = ["config/config.schema.yaml", "config/config.yaml", "workflow/Snakefile"]
HOUSE += ["workflow/envs/downloader.yaml", "rules/common.smk", "profiles/local/config.yaml"]
HOUSE += ["scripts/download_images.py"]
ASK = """
import json
from distributed_downloader.configuration import config
from distributed_downloader import house
settings = config.settings_of(config.resolve_config({"path_to_input": "a", "path_to_output": "b"}))
print(json.dumps([house.__file__, str(house.house()), settings.batch_size]))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output; outside of the checkout and of its variables."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    clean["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{clean['PATH']}"  # MPI's launcher
    clean["MPI4PY_LIBMPI"] = str(Path(sys.prefix) / "lib" / "libmpi.so.12")  # and its library
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel made from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture
def elsewhere(built: Path, tmp_path: Path) -> Path:
    """The Python of a new environment with the wheel, and ours for the dependencies."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    [wheel] = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    run(*pip, "-q", wheel, cwd=tmp_path)
    [site] = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_wheel_finds_its_house_in_another_environment_and_folder(elsewhere, tmp_path):
    source, house, batch_size = json.loads(run(elsewhere, "-c", ASK, cwd=tmp_path))
    assert Path(source).is_relative_to(tmp_path)
    assert house == str(Path(source).parent / "house")
    assert [file for file in HOUSE if not (Path(house) / file).is_file()] == []
    assert batch_size == 10_000


def test_wheel_downloads_in_any_folder(elsewhere, start_fleet, new_workflow, tmp_path):
    fleet = start_fleet(
        HostPlan(name="a.wheel.test", address="127.0.13.1", images=4, photos="tiny")
    )
    workflow = new_workflow(fleet, fleet.urls())
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(workflow.config))
    (tmp_path / "mine").mkdir()
    main = "from distributed_downloader import download_images; download_images('../my.yaml')"
    run(elsewhere, "-c", main, cwd=tmp_path / "mine")
    assert workflow.states() == {"ok": 4}


def test_wheel_has_the_library_once_and_nothing_of_the_machine(built):
    [wheel] = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert sum(name.endswith("/house.py") for name in names) == 1
    assert [name for name in names if name.endswith(".pyc") or ".snakemake" in name] == []


def test_editable_installation_copies_nothing(tmp_path):
    ask = f"from hatchling.build import build_editable; build_editable({str(tmp_path)!r})"
    run(sys.executable, "-c", ask, cwd=ROOT)
    [wheel] = tmp_path.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    [path] = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert archive.read(path).decode() == str(ROOT / "scripts")


def test_sdist_has_what_make_needs(built):
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", ".ci/run", ".ci/make-venv", "requirements.lock"} <= names
    assert "tests/workflow/test_packaging.py" in names


def test_distribution_is_not_called_as_the_predecessor():
    assert PROJECT["name"] not in ("distributed-downloader", "distributed_downloader")


def test_lock_has_the_pinned_versions():
    locked = dict(PIN.findall(LOCK))
    asked = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    assert len(asked) > 20
    assert {pin: locked.get(pin.split("==")[0]) for pin in asked} == {
        pin: pin.split("==")[1] for pin in asked
    }


def test_lock_has_hashes_for_everything_and_names_no_host():
    entries = [line for line in LOCK.splitlines() if line and not line.startswith(" ")]
    assert len(entries) == len(PIN.findall(LOCK)) > 100
    assert all(line.endswith("\\") for line in entries)
    assert re.search(r"://|file:|--index|--find-links|@ ", LOCK) is None


def test_build_backend_comes_from_the_lock():
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert all(pin in LOCK for pin in backend)


def test_environment_names_the_same_versions():
    conda = yaml.safe_load((ROOT / "environment.yaml").read_text())["dependencies"]
    pins = [pin.replace("==", "=") for pin in PROJECT["dependencies"]]
    assert [pin for pin in conda if not pin.startswith("python ")] == pins
    assert (ROOT / "workflow/envs/downloader.yaml").samefile(ROOT / "environment.yaml")
