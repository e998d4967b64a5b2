# The checked config, the paths, and the functions that rules ask for their inputs. No rules here.
#
# OUT.<name> are the paths that config/README.md lists. CONFIG_PATH is the checked config with its
# defaults, under a name with its hash: what a job reads never changes while it runs.

import json
import os
import secrets
import shlex
import sys
import time

HOUSE = Path(workflow.basedir).parent
SCRIPTS = HOUSE / "scripts"
ENVIRONMENT = HOUSE / "workflow" / "envs" / "downloader.yaml"
sys.path.insert(0, str(SCRIPTS))

from distributed_downloader.accounts.status import print_status
from distributed_downloader.accounts.summary import read_summary
from distributed_downloader.running.begin import (
    begin_run,
    generation_to_make,
    input_bytes,
    settings_of_run,
    was_asked_to_end,
)
from distributed_downloader.running.outcome import has_failed
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
    GENERATION = generation_to_make(SETTINGS, RUN)  # None: the list is what it was
except DownloaderError as error:
    sys.exit(f"error: {error}")

OUT = SETTINGS.paths
FIRST_WAVE = first_wave(OUT)  # of this run; a job never asks for it
# What has to run in every run leaves a flag that no run had before. (A fixed name would do if
# Snakemake removed it, but it keeps what `all` asks for: then there is nothing left to do.)
# Jobs on other nodes read the workflow anew: the environment tells them.
FLAG = RUN.get("RUN_FLAG") or f"flag-{secrets.token_hex(4)}.json"
os.environ.update(RUN_FLAG=FLAG)
IS_IN_CONDA = "conda" in [
    str(way) for way in workflow.deployment_settings.deployment_method
]
PYTHON = "python" if IS_IN_CONDA else shlex.quote(sys.executable)
STARTED = time.time()


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


def profile_says(rule, resource, otherwise):
    """What `set-resources` of the profile, or of the command line, says of a rule."""
    said = workflow.resource_settings.overwrite_resources.get(rule, {})
    return said[resource].raw if resource in said else otherwise


# Tables that are cut, or filtered, in a second are no job for a cluster.
SMALL_BYTES = 10_000_000
LEDGER_BYTES = OUT.ledger.stat().st_size if OUT.ledger.exists() else 0
IS_SMALL = max(input_bytes(SETTINGS), LEDGER_BYTES) < SMALL_BYTES

# Who pays and where, for Slurm; what is not said here a profile may say.
SITE = {
    resource: SETTINGS.raw[setting]
    for resource, setting in (
        ("slurm_account", "account"),
        ("slurm_partition", "slurm_partition"),
    )
    if SETTINGS.raw[setting]
}


# An MPI rule, the download's or a tool's: `resources: **mpi_resources(...)`, `shell: START_RANKS + ...`.
# Its params are `variables`, `python` and `script`; the launcher is what the profile says of the
# download. Never mpiexec on Slurm: it would put all ranks on the first node without a word.
LAUNCHER = profile_says("download_images", "mpi", otherwise="mpiexec")
START_RANKS = (
    "exec env {params.variables} SRUN_CPUS_PER_TASK={resources.cpus_per_task}"
    " {resources.mpi} -n {resources.tasks} {params.python} -m mpi4py {params.script}"
)


def planned(input):
    """What a plan says: `ranks`, and the `nodes` they need."""
    try:
        return json.loads(Path(input.plan).read_text())
    except ValueError as error:
        sys.exit(
            f"error: {input.plan} is empty or damaged ({error}): remove it and run the same "
            "command again, which plans anew."
        )


def mpi_resources(cpus, rank_mb, plan_of=planned):
    """What ranks of `cpus` CPUs and `rank_mb` MB each take, on Slurm: nodes with an equal share.

    `plan_of` finds the plan of a rule's input. Without Slurm there is one node, whatever it says.
    """

    def tasks(wildcards, input):
        # one is said as a word: the Slurm executor refuses the number 1 for what MPI starts
        ranks = plan_of(input)["ranks"]
        return ranks if ranks > 1 else "1"

    def nodes(wildcards, input):
        return plan_of(input)["nodes"]

    def spread(wildcards, input):
        # said, because Slurm would fill the first nodes
        plan = plan_of(input)
        return f"--ntasks-per-node={-(-plan['ranks'] // plan['nodes'])}"

    return {
        **SITE,
        "mpi": LAUNCHER,
        "tasks": tasks,
        "nodes": nodes,
        "cpus_per_task": cpus,
        "mem_mb_per_cpu": -(-rank_mb // cpus),
        "slurm_extra": spread,
    }


def runtime_min(wildcards, resources):
    """Minutes that the job was given; 0 = nobody limits it."""
    return resources.get("runtime", 0)


def is_a_look():
    """Whether only `status` was asked for, which may be done beside a run at work."""
    return set(workflow.dag_settings.targets) == {"status"}


RUN_ENDS = []  # what ends the live line


def start():
    """Take the output folder, or end with one sentence: nothing has been touched yet."""
    try:
        if is_a_look():
            print_status(OUT, sys.stdout)
            return
        look_for_slurm()
        RUN_ENDS.append(begin_run(SETTINGS, config))
    except DownloaderError as error:
        sys.exit(f"error: {error}")
    for flag in OUT.logs.glob("*/flag-*.json"):
        flag.unlink(missing_ok=True)


def account_for_what_is_there(account):
    """After an error: verify and the report run all the same, and the error stands.

    `account` are Snakemake's logs of this run: where verify itself is what failed, it has said why.
    What was counted before this run is not told again.
    """
    for end in RUN_ENDS:
        end()
    if was_asked_to_end() or not has_failed("verify_dataset", account):
        run_after_an_error("verify", "verify_dataset")
    summary = read_summary(OUT)
    if summary and summary["written"] >= STARTED:
        run_after_an_error("report", "write_report")


def run_after_an_error(stage, script):
    """Run it, whatever comes of it."""
    log = OUT.logs / stage / "after-an-error.log"
    shell(
        f"env {variables(stage)} {PYTHON} {{SCRIPTS}}/{script}.py --config {{CONFIG_PATH:q}}"
        " --log {log:q} --flag {log:q}.json || true"
    )
