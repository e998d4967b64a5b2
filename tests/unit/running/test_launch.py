import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import distributed_downloader
from distributed_downloader.errors import ConfigError, DownloaderError
from distributed_downloader.house import house
from distributed_downloader.running import launch
from distributed_downloader.running.launch import download_images

HOUSE = Path(__file__).parents[3]


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "a folder of the user's"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "my.yaml").write_text("path_to_input: urls.txt\npath_to_output: out\n")
    return folder


@pytest.fixture
def snakemake(here, monkeypatch):
    """Puts a program in Snakemake's place; what it was called with lands in called.json."""

    def install(body=""):
        program = here / "fake_snakemake.py"
        program.write_text(
            "import json, os, sys\n"
            "with open('called.json', 'w') as file:\n"
            "    json.dump([sys.argv[1:], os.getcwd()], file)\n" + textwrap.dedent(body)
        )
        monkeypatch.setattr(launch, "SNAKEMAKE", (sys.executable, str(program)))

    install()
    return install


def called(here):
    return json.loads((here / "called.json").read_text())


def test_workflow_starts_here_with_our_house(snakemake, here):
    download_images("my.yaml")
    arguments, folder = called(here)
    assert folder == str(here)
    assert arguments == [
        f"--snakefile={house() / 'workflow' / 'Snakefile'}",
        f"--workflow-profile={house() / 'profiles' / 'default'}",
        f"--profile={house() / 'profiles' / 'local'}",
        "--configfile",
        str(here / "my.yaml"),
    ]


def test_targets_stand_before_the_config_which_takes_all_that_follow(snakemake, here):
    download_images("my.yaml", targets=["plan", "resize"])
    arguments, _ = called(here)
    assert arguments[:2] == ["plan", "resize"]
    assert arguments[-2] == "--configfile"


@pytest.mark.parametrize("made", [True, False])
def test_profile_is_a_folder_here_or_ours_or_snakemakes_to_find(snakemake, here, made):
    if made:
        (here / "slurm").mkdir()
    download_images("my.yaml", profile="slurm")
    home = here if made else house() / "profiles"
    assert f"--profile={home / 'slurm'}" in called(here)[0]
    download_images("my.yaml", profile="of-my-lab")
    assert "--profile=of-my-lab" in called(here)[0]


def test_overrides_keep_their_types_and_nesting(snakemake, here):
    overrides = {"downloader_parameters": {"num_downloads": 1}, "path_to_output": Path("other")}
    download_images("my.yaml", overrides=overrides)
    arguments, _ = called(here)
    assert arguments[-3:-1] == ["--configfile", str(here / "my.yaml")]
    assert json.loads(Path(arguments[-1]).read_text()) == {
        "downloader_parameters": {"num_downloads": 1},
        "path_to_output": "other",
    }


def test_missing_config_is_one_sentence_before_anything_starts(snakemake, here):
    with pytest.raises(ConfigError, match=r"There is no config file .*/missing\.yaml: copy"):
        download_images("missing.yaml")
    assert not (here / "called.json").exists()


def test_option_in_place_of_a_target_is_refused(snakemake, here):
    with pytest.raises(ConfigError, match="'--unlock' is no target"):
        download_images("my.yaml", targets=["--unlock"])
    assert not (here / "called.json").exists()


def test_failure_raises_with_the_sentence_a_person_needs(snakemake, capsys):
    snakemake(
        """
        print("Building DAG of jobs...", file=sys.stderr)
        print("error: The list is empty: name another.", file=sys.stderr)
        print("Error in rule partition: many words", file=sys.stderr)
        sys.exit(1)
        """
    )
    with pytest.raises(DownloaderError) as caught:
        download_images("my.yaml")
    assert str(caught.value) == "The list is empty: name another."
    assert "Building DAG of jobs...\n" in capsys.readouterr().err


def test_failure_without_a_sentence_shows_the_last_lines(snakemake):
    snakemake("print('what', 'happened?')\nsys.exit(3)")
    with pytest.raises(DownloaderError, match=r"exit code 3 .*last lines:\nwhat happened"):
        download_images("my.yaml")


def test_logger_gets_each_line_with_its_level_and_stderr_nothing(snakemake, caplog, capfd):
    snakemake(
        r"""
        print("one\n\nWARNING: two", flush=True)
        print("\033[31merror: three\033[0m", file=sys.stderr)
        print("nötig", end="")
        """
    )
    caplog.set_level(logging.INFO)
    download_images("my.yaml", logging.getLogger("mine"))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "one"),
        ("WARNING", "WARNING: two"),
        ("ERROR", "error: three"),
        ("INFO", "nötig"),
    ]
    assert capfd.readouterr() == ("", "")


def test_modules_in_the_users_folder_do_not_pass_for_snakemakes(here, monkeypatch):
    (here / "snakemake.py").write_text("raise SystemExit('the wrong snakemake')")
    text = subprocess.run(
        [*launch.SNAKEMAKE, "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert text.startswith("9.")


SNAKEFILE = """
import json
rule all:
    input: "told.json"
rule tell:
    output: "told.json"
    log: "tell.log"
    params: told=json.dumps(config)
    shell: "echo {params.told:q} > {output}; {config[then]}"
"""


def test_real_snakemake_takes_our_command_line(here, tmp_path, monkeypatch):
    home = tmp_path / "a house"
    for name, text in {
        "workflow/Snakefile": SNAKEFILE,
        "profiles/default/config.yaml": "nolock: true\nrerun-incomplete: true\n",
        "profiles/local/config.yaml": "cores: 1\n",
    }.items():
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(text)
    monkeypatch.setattr(launch, "house", lambda: home)
    overrides = {"a": {"b": 1}, "then": "true"}
    (here / "my.yaml").write_text("{a: {b: 0, c: '2'}, then: 'false'}")
    download_images("my.yaml", targets=["tell"], overrides=overrides)
    assert json.loads((here / "told.json").read_text()) == {
        "a": {"b": 1, "c": "2"},
        "then": "true",
    }
    (here / "told.json").unlink()
    fails = {"then": "echo 'error: The disk is full.' >&2; exit 1"}
    with pytest.raises(DownloaderError) as caught:
        download_images("my.yaml", overrides=fails)
    assert str(caught.value) == "The disk is full."


def test_interrupt_reaches_the_workflow_once_and_is_raised_when_it_has_ended(here):
    """A python of its own is interrupted, as by Ctrl-C, while the fake workflow runs."""
    (here / "fake_snakemake.py").write_text(
        "import signal, sys, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        "print('ready', flush=True)\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.2)  # for a second signal to come, if there were one\n"
        "print('stored after', len(seen), 'interrupt', flush=True)\n"
        "sys.exit(1)\n"
    )
    program = (
        "import sys\n"
        "from distributed_downloader.running import launch\n"
        "launch.SNAKEMAKE = (sys.executable, 'fake_snakemake.py')\n"
        "try:\n    launch.download_images('my.yaml')\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(HOUSE / "scripts")},
    ) as python:
        assert python.stderr.readline() == "ready\n"
        os.killpg(python.pid, signal.SIGINT)  # as a terminal does it
        assert python.stderr.read() == "stored after 1 interrupt\n"
    assert python.returncode == 130


def test_package_exports_lazily_and_imports_nothing_heavy():
    program = (
        "import sys; before = set(sys.modules); import distributed_downloader\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(HOUSE / "scripts")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    heavy = {"polars", "numpy", "httpx", "aiohttp", "h5py", "PIL", "mpi4py", "asyncio", "yaml"}
    assert "distributed_downloader" in told
    assert heavy.isdisjoint(told)
    assert distributed_downloader.download_images is download_images
    assert {"Dataset", "download_images", "__version__"} <= set(dir(distributed_downloader))
    with pytest.raises(AttributeError, match="has no attribute 'download_image'"):
        _ = distributed_downloader.download_image


def test_version_is_the_distributions():
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
    assert distributed_downloader.__version__ == project["version"]
    assert (HOUSE / "scripts" / "distributed_downloader" / "py.typed").is_file()
