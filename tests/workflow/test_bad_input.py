"""What cannot work is told in one sentence, with the way out, before anything is written."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from distributed_downloader.fleet.plan import HostPlan
from tests.workflow.conftest import Workflow, run_snakemake

ONE_URL = b"http://images.example.org/a.jpg\n"
OWN = {"politeness": {"allow_private_addresses": True}}  # no contact needed
TAKEN = (
    "path_to_input takes tab- or comma-separated text, JSON, parquet, "
    "or a text file with one URL a line."
)
INITIALIZERS = "eol, fathom_net, gbif, general, lila, tol200m_fathomNet, tol200m_general"
ENDINGS = ".txt, .list, .tsv, .tab, .csv, .json, .jsonl, .ndjson, .parquet, .pq"


class Case(NamedTuple):
    """A list (its bytes under a name; none: no file), a config, and what is said of them."""

    sentences: tuple[str, ...]  # {input} is filled in
    config: Mapping[str, Any] = OWN
    name: str = "urls.txt"
    content: bytes | None = ONE_URL
    path_to_input: str = ""  # the file itself when empty


CASES = {
    "unknown key": Case(
        ("Unknown setting politeness.robot: did you mean politeness.robots?",),
        {"politeness": {"allow_private_addresses": True, "robot": "obey"}},
    ),
    "wrong type, and out of bounds": Case(
        (
            'downloader_parameters.image_size is "large": allowed is a whole number from 0 to '
            "16383.",
            "downloader_parameters.workers_per_node is 0: allowed is a whole number from 1 to 256.",
        ),
        {**OWN, "downloader_parameters": {"image_size": "large", "workers_per_node": 0}},
    ),
    "politeness that contradicts itself": Case(
        (
            "politeness.servers gives servers of one group hours that never meet (1:00-3:00 and "
            "5:00-7:00): let them overlap.",
        ),
        {
            "politeness": {
                **OWN["politeness"],
                "servers": {"a.x.org": {"hours": "1-3"}, "b.x.org": {"hours": "5-7"}},
            }
        },
    ),
    "initializer_type": Case(
        (f'initializer_type is "birds": allowed is one of {INITIALIZERS}; did you mean',),
        {**OWN, "initializer_type": "birds"},
    ),
    "unknown tool": Case(
        (
            "There is no tool 'resise'; there are compact,",
            "Did you mean resize? A tool",
        ),
        {**OWN, "tools": ["size_based", "resise"]},
    ),
    "no contact": Case(
        (
            'The User-Agent "polite-image-downloader" names no contact, so the owners of the '
            'servers could not reach you: write `downloader_parameters: {header: "User-Agent: '
            'my-project (mailto:me@my-university.edu)"}` with your own mail address or URL.',
        ),
        {},
    ),
    "no such input": Case(
        ("There is no file {input}; path_to_input takes a file, a folder or a glob that exists.",),
        content=None,
    ),
    "empty file": Case(("{input} is empty; give a list with at least one URL.",), content=b""),
    "empty folder": Case(
        ("{input} holds no file that ends in one of " + ENDINGS + "; name its files by a glob.",),
        path_to_input="lists",
        content=None,
    ),
    "binary file": Case(
        ("{input} is not text in UTF-8; " + TAKEN,),
        name="urls.csv",
        content=bytes(range(256)) * 40,
    ),
    "no URL column": Case(
        (
            "{input} has no column identifier; its columns are gbifID, type, creator: name the "
            "right one in the config, as columns: {identifier: <name>}.",
        ),
        name="urls.csv",
        content=b"gbifID,type,creator\n1,StillImage,somebody\n",
    ),
    "cut JSON": Case(
        ("{input} cannot be read to its end (",),
        name="urls.json",
        content=b'[{"identifier": "http://images.example.org/a.jpg"}, {"identifier": "http://ima',
    ),
}


class Refusal(NamedTuple):
    """What became of a case."""

    folder: Path
    given: str
    done: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Refusal]:
    """All cases, two at a time: most of each is waiting for Snakemake to be loaded."""

    def refuse(name: str) -> Refusal:
        case, folder = CASES[name], tmp_path_factory.mktemp("case")
        (folder / "lists").mkdir()
        given = str(folder / (case.path_to_input or case.name))
        if case.content is not None:
            (folder / case.name).write_bytes(case.content)
        paths = {"path_to_input": given, "path_to_output": str(folder / "out")}
        return Refusal(folder, given, Workflow(folder, {**paths, **case.config}).run())

    with ThreadPoolExecutor(2) as two:
        return dict(zip(CASES, two.map(refuse, CASES), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_bad_config_or_input_is_one_sentence_and_leaves_nothing(name, refusals):
    folder, given, done = refusals[name]
    assert done.returncode == 1
    for sentence in CASES[name].sentences:
        assert sentence.replace("{input}", given) in done.stdout
    assert done.stdout.count("error: ") == 1
    assert "Traceback" not in done.stdout
    left = [path for path in (folder / "out").glob("*") if path.name not in ("configs", "logs")]
    assert left == []


def test_an_untouched_checkout_says_what_is_missing():
    done = run_snakemake("-n")
    assert done.returncode == 1
    assert done.stdout.splitlines()[1:] == [
        "error: No path_to_input and no path_to_output: say where the list of image URLs is and "
        "where the dataset goes, in a config of your own (`--configfile my.yaml`, the template is "
        "config/config.yaml) or as `--config path_to_input=urls.txt path_to_output=out`."
    ]


def test_a_target_that_nothing_makes_is_told_with_those_that_there_are(tmp_path):
    words = ["--config", "path_to_input=urls.txt", f"path_to_output={tmp_path / 'out'}"]
    words += ["politeness={allow_private_addresses: true}"]
    done = run_snakemake("resise", "--profile", "profiles/local", *words)
    assert done.returncode == 1
    assert done.stdout.splitlines()[1:] == [
        "error: Nothing is called 'resise': say no target for everything, or plan, status, "
        "restore, or a tool (compact, contact_sheet, duplication_based, export_croissant, "
        "export_files, export_parquet, export_webdataset, image_verification, near_duplicates, "
        "resize, size_based). Did you mean resize?"
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "No such file or directory: '{file}'"),
        ("path_to_input: [a\nb: 1", "Config file is not valid JSON or YAML."),
    ],
)
def test_a_config_file_that_cannot_be_read_is_told(tmp_path, content, sentence):
    file = tmp_path / "my.yaml"
    if content is not None:
        file.write_text(content)
    done = run_snakemake("--profile", "profiles/local", "--configfile", str(file))
    assert done.returncode == 1
    # Snakemake reads it before anything of ours, and shows its way there: its last line tells
    assert sentence.format(file=file) in done.stdout.strip().splitlines()[-1]


def test_a_profile_that_is_not_there_is_named():
    done = run_snakemake("--profile", "my-site", "--configfile", "config/demo.yaml")
    assert done.returncode == 1
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("Error: profile directory given (my-site), but no")


def test_the_slurm_profile_where_no_slurm_is_ends_at_once(tmp_path):
    """It would submit its first job for ever."""
    (tmp_path / "urls.txt").write_bytes(ONE_URL)
    config = tmp_path / "my.yaml"
    given = {"path_to_input": f"{tmp_path}/urls.txt", "path_to_output": f"{tmp_path}/out", **OWN}
    config.write_text(json.dumps(given))
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "bash", "env", "which"):
        (programs / name).symlink_to(shutil.which(name))
    done = run_snakemake("--profile", "slurm", "--configfile", str(config), PATH=str(programs))
    assert done.returncode == 1
    assert "error: No sbatch, squeue, scontrol here, so this is no login node" in done.stdout
    assert not (tmp_path / "out" / "urls").exists()


def test_what_cannot_be_mixed_is_refused_with_the_way_out(start_fleet, new_workflow):
    fleet = start_fleet(
        HostPlan(name="a.museum.test", address="127.0.12.1", images=3, photos="tiny")
    )
    workflow = new_workflow(fleet, fleet.urls(), profile={"samples": 0})
    workflow.finish()
    root, asked = workflow.paths.root, len(fleet.accesses())
    before = contents(workflow.paths.images)
    original = dict(workflow.config)
    other = workflow.folder / "other.txt"
    other.write_text("\n".join(url.replace("a.museum", "b.museum") for url in fleet.urls()))
    parameters = original["downloader_parameters"]
    changes = {
        f"{root} was made with image_size = 224, not 100: put image_size back, or give another "
        "path_to_output.": {"downloader_parameters": {**parameters, "image_size": 100}},
        f"{root} was made with batch_size = 8, not 9: put batch_size back, or give another "
        "path_to_output.": {"downloader_parameters": {**parameters, "batch_size": 9}},
        f"{root} was made from another list (urls.txt): none of its 3 rows is in {other}. Put that "
        "list back, or give another path_to_output.": {"path_to_input": str(other)},
    }
    for sentence, change in changes.items():
        workflow.config = {**original, **change}
        done = workflow.run()
        assert done.returncode == 1
        assert f"error: {sentence}" in done.stdout.splitlines()
    assert contents(workflow.paths.images) == before
    assert len(fleet.accesses()) == asked


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
