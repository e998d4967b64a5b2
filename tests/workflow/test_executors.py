"""What a profile comes to, once Snakemake has put it together with the one that it always loads."""

import sys

import pytest
from snakemake.cli import parse_args

from tests.workflow.conftest import CHECKOUT


@pytest.fixture
def effective(monkeypatch):
    """The settings under a command line in the checkout."""
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setattr(sys, "argv", ["snakemake"])
    return lambda *words: parse_args(list(words))[1]


def test_the_literal_profile_slurm_runs_on_slurm_and_starts_ranks_with_srun(effective):
    settings = effective("--profile", "slurm")
    assert settings.executor == "slurm"
    wave = settings.set_resources["download_images"]
    assert wave["mpi"].raw == "srun --mpi=pmi2 --kill-on-bad-exit=1"
    assert settings.slurm_status_command == "squeue"
    assert settings.seconds_between_status_checks >= 5  # a login node is no place for busy looks
    assert settings.nolock
    assert settings.rerun_incomplete


def test_the_slurm_profile_names_no_partition_and_no_account(effective):
    settings = effective("--profile", "slurm")
    named = [dict(settings.default_resources), *map(dict, settings.set_resources.values())]
    assert not {"slurm_partition", "slurm_account"} & {key for one in named for key in one}


@pytest.mark.parametrize("words", [(), ("--profile", "profiles/local")])
def test_without_slurm_jobs_are_processes_of_the_run(effective, words):
    settings = effective(*words)
    assert settings.executor in {None, "local"}
    assert not settings.forcerun  # whatever is forced becomes a target, of `plan` too
    assert not settings.set_resources
