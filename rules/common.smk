# The checked config, the paths, and the functions that rules ask for their inputs. No rules here.
#
# OUT.<name> are the paths that config/README.md lists. CONFIG_PATH is the checked config with its
# defaults, under a name with its hash: what a job reads never changes while it runs.

import json
import os
import secrets
import shlex
import sys

HOUSE = Path(workflow.basedir).parent
SCRIPTS = HOUSE / "scripts"
ENVIRONMENT = HOUSE / "workflow" / "envs" / "downloader.yaml"
sys.path.insert(0, str(SCRIPTS))

from distributed_downloader.running.begin import begin_run, input_files, settings_of_run
from distributed_downloader.configuration.environment import (
    CONFIG_VARIABLE,
    environment_of,
    search_path,
)
from distributed_downloader.errors import DownloaderError
from distributed_downloader.waves.due import first_wave, next_wave_is_due

RUN = {} if workflow.is_main_process else os.environ  # what this run tells its jobs
try:
    SETTINGS, CONFIG_PATH = settings_of_run(config, RUN)
except DownloaderError as error:
    sys.exit(f"error: {error}")

OUT = SETTINGS.paths
FIRST_WAVE = first_wave(OUT)  # of this run; a job never asks for it
# What has to run in every run leaves a flag that no run had before. (A fixed name would do if
# Snakemake removed it, but it keeps what `all` asks for: then there is nothing left to do.)
FLAG = f"flag-{secrets.token_hex(4)}.json"
IS_IN_CONDA = "conda" in [
    str(way) for way in workflow.deployment_settings.deployment_method
]
PYTHON = "python" if IS_IN_CONDA else shlex.quote(sys.executable)


def variables(stage, threads=1):
    """The variables of a stage's job, as words for `env`. Libraries take no core unasked."""
    wanted = {
        **environment_of(SETTINGS, stage),
        CONFIG_VARIABLE: str(CONFIG_PATH),
        "PATH": search_path(),
        "POLARS_MAX_THREADS": str(threads),
        "OMP_NUM_THREADS": "1",
    }
    return shlex.join(f"{name}={value}" for name, value in wanted.items())


# Of a rank: under 600 MB, and what its codec threads hold; the first node also has what starts them.
RANK_MB = 900 + 100 * SETTINGS.cpu_per_worker

# A list that is cut in a second is no job for a cluster.
SMALL_BYTES = 10_000_000
IS_SMALL = (
    sum(Path(file).stat().st_size for file in input_files(SETTINGS)) < SMALL_BYTES
)

# Who pays and where, for Slurm; what is not said here a profile may say.
SITE = {
    resource: SETTINGS.raw[setting]
    for resource, setting in (
        ("slurm_account", "account"),
        ("slurm_partition", "slurm_partition"),
    )
    if SETTINGS.raw[setting]
}


def planned(input):
    """What the wave's plan says."""
    return json.loads(Path(input.plan).read_text())


def planned_tasks(wildcards, input):
    """As many ranks as the wave's plan has use for.

    One is said as a word: Snakemake's Slurm executor refuses the number 1 for what MPI starts.
    """
    ranks = planned(input)["ranks"]
    return ranks if ranks > 1 else "1"


def planned_nodes(wildcards, input):
    """As many nodes as these ranks need; without Slurm there is one, whatever is said here."""
    return planned(input)["nodes"]


def planned_spread(wildcards, input):
    """The same share of ranks for every node: Slurm would fill the first ones."""
    plan = planned(input)
    return f"--ntasks-per-node={-(-plan['ranks'] // plan['nodes'])}"


def runtime_min(wildcards, resources):
    """Minutes that the job was given; 0 = nobody limits it."""
    return resources.get("runtime", 0)


def start():
    """Take the output folder, or end with one sentence: nothing has been touched yet."""
    try:
        begin_run(SETTINGS, config)
    except DownloaderError as error:
        sys.exit(f"error: {error}")
    for flag in OUT.logs.glob("*/flag-*.json"):
        flag.unlink(missing_ok=True)


def account_for_what_is_there():
    """After an error: verify and the report run all the same, and the error stands."""
    for stage, name in (("verify", "verify_dataset"), ("report", "write_report")):
        log = OUT.logs / stage / "after-an-error.log"
        shell(
            f"env {variables(stage)} {PYTHON} {{SCRIPTS}}/{name}.py --config {{CONFIG_PATH:q}}"
            " --log {log:q} --flag {log:q}.json || true"
        )
