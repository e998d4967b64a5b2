"""Every command of the README is run: here as it stands there, by a named test, or by CI."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from distributed_downloader import Dataset
from distributed_downloader.fleet.plan import HostPlan
from tests.benchmarks.__main__ import TINY
from tests.workflow.conftest import CHECKOUT

PAGES = ("README.md", "config/README.md")
IS_COMMAND = re.compile(r"(make|snakemake|python|pip|git|cp|cd|\.venv/bin/\w+|--config) ")
CI = ".ci/run"
BY_HAND = ("git clone <this repository> downloader", "cd downloader")  # how CI gets its checkout
LOCAL = ".venv/bin/snakemake{target} --profile profiles/local --configfile my.yaml"
WITHOUT_A_FILE = (
    ".venv/bin/snakemake --profile profiles/local --config path_to_input=urls.txt "
    "path_to_output=dataset downloader_parameters='{header: "
    '"User-Agent: my-project (mailto:me@my-university.edu)"}\''
)
PLAYED = {  # command -> what it says; in this order, in one folder
    "cp config/config.yaml my.yaml": "",
    LOCAL.format(target=" plan"): "politeness alone costs",
    LOCAL.format(target=""): "4  of 4 rows (100%)",
    LOCAL.format(target=" status"): "At work       nobody",
    WITHOUT_A_FILE: "4  of 4 rows (100%)",
    LOCAL.format(target=" size_based"): "size_based: 4 images done, 4 removed",
    LOCAL.format(target=" restore") + " --config tool=size_based": (
        "restore: 4 images that size_based removed are back"
    ),
}
RUN_BY = {
    "make run": CI,
    "make test": CI,
    "make test-slurm": CI,
    "make drill": CI,
    "make fuzz": CI,
    "make lint": CI,
    "make bench": CI,
    "make setup": CI,
    ".venv/bin/python -m build --no-isolation": "workflow/test_packaging.py::built",
    ".venv/bin/snakemake plan --profile slurm --configfile my.yaml": (
        "slurm/test_waves_on_slurm.py::test_a_plan_asks_for_samples_by_a_job_and_for_nothing_else"
    ),
    ".venv/bin/snakemake --profile slurm --configfile my.yaml": (
        "slurm/test_demo_on_slurm.py::"
        "test_the_demo_and_its_tools_are_jobs_and_come_to_what_they_come_to_anywhere"
    ),
    # of config/README.md: words that are added to a command above
    "--config 'flush={seconds: 5}'": "workflow/test_readme.py::test_the_commands_do_what_they_say",
    "--config verify=full": "workflow/test_readme.py::test_the_commands_do_what_they_say",
    "snakemake restore --config tool=<name>": (
        "workflow/test_readme.py::test_the_commands_do_what_they_say"
    ),
}


def text(page: str) -> str:
    return (CHECKOUT / page).read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """What stands in the README in fences of this language."""
    return re.findall(rf"```{language}\n(.*?)```", text("README.md"), re.S)


def commands(page: str) -> Iterator[str]:
    """Of indented lines, without comments, and of words in backticks."""
    prose = re.sub(r"```.*?```", "", text(page), flags=re.S)
    for line in prose.replace("\\\n", " ").splitlines():
        if line.startswith("    ") and IS_COMMAND.match(line.strip() + " "):
            for command in re.sub(r"\s+#.*", "", line).split(" && "):
                yield " ".join(command.split())
        else:
            yield from (word for word in re.findall(r"`([^`]+)`", line) if IS_COMMAND.match(word))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_by_somebody(page):
    found = set(commands(page)) - set(BY_HAND)
    assert len(found) > 2
    assert found - set(PLAYED) - set(RUN_BY) == set()


def test_no_command_is_run_that_is_offered_no_more():
    found = {command for page in PAGES for command in commands(page)}
    assert {*PLAYED, *RUN_BY} - found == set()


@pytest.mark.parametrize("command", RUN_BY)
def test_who_is_said_to_run_it_is_there(command):
    file, _, name = RUN_BY[command].partition("::")
    if file == CI:
        is_before_all = command == "make setup" and "\ntest: setup\n" in text("Makefile")
        assert is_before_all or re.search(rf"^{command}( |$)", text(CI), re.M)
    else:
        assert f"\ndef {name}(" in text(f"tests/{file}")


def test_make_bench_runs_every_benchmark():
    scripts = {path.stem for path in (CHECKOUT / "tests/benchmarks").glob("[a-z]*.py")}
    assert set(TINY) == scripts - {"compare_spark"}  # needs an installation of its own


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what a checkout has, and nothing in it but what the commands make."""
    for name in ("config", "profiles", "rules", "scripts", "workflow"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def answer(folder: Path, command: str) -> str:
    """What it says; it must end well."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def test_the_commands_do_what_they_say(checkout, start_fleet, monkeypatch, capsys):
    fleet = start_fleet(
        HostPlan(name="a.readme.test", address="127.0.36.1", images=4, photos="tiny")
    )
    (checkout / "urls.txt").write_text("\n".join(fleet.urls()))
    here = {"politeness": {"allow_private_addresses": True}, "hosts": dict(fleet.hosts)}
    tools = {"threshold_size": 10_000, "new_resize_size": 8}
    for command, said in PLAYED.items():
        words = ""
        if command == WITHOUT_A_FILE:  # the servers are here; and config/README's --config
            pairs = [
                f"{name}={shlex.quote(yaml.safe_dump(here[name], default_flow_style=True).strip())}"
                for name in here
            ]
            words = " ".join(["", *pairs, "verify=full", "'flush={seconds: 5}'"])
        assert said in answer(checkout, command + words)
        if command.startswith("cp "):
            assert (checkout / "my.yaml").read_text() == text("config/config.yaml")
            lines = yaml.safe_dump({**here, "tools_parameters": tools})
            (checkout / "my.yaml").write_text(blocks("yaml")[0] + lines)

    monkeypatch.chdir(checkout)
    asked = len(fleet.accesses())
    read, run, *_ = blocks("python")
    exec(run, {})
    assert "4  of 4 rows" in capsys.readouterr().err
    assert len(fleet.accesses()) == asked
    with Dataset("dataset/tools/resize") as small:
        assert max(small.image(0).size) == 8
    exec(read, {})
    assert capsys.readouterr().out.startswith("4 shape: (4, ")
    with Image.open("first.jpg") as image:
        assert max(image.size) <= 224
