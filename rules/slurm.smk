# What Snakemake's Slurm executor does not survive, mended on the login node. No rules here.
#
# 1. A look at the queue that brings no answer loses all jobs of that look: the run waits for ever.
#    We ask until there is an answer, and submit nothing while the controller is away.
# 2. Some ends of a job are never recognised: `slurm_queue` says which.
# 3. Without an account it calls sacct, with one sacctmgr or sshare; where they are missing no job
#    starts. sbatch knows the user's account, and refuses a wrong one by itself.

import asyncio
import shlex
import subprocess
import time

import snakemake_executor_plugin_slurm as slurm

from distributed_downloader.running.slurm_queue import Queue

AGAIN_S = 10  # until Slurm is asked again when it did not answer


def mend(queue):
    """Put ours in the place of what the executor calls."""
    ask, submit = slurm.query_job_status, slurm.Executor.run_job

    async def until_answered(command, logger):
        while (answer := await ask(command, logger))[0] is None:
            await asyncio.sleep(AGAIN_S)
        states, seconds = answer
        return queue.read(states, is_complete=command.startswith("squeue")), seconds

    def submit_when_it_answers(executor, job):
        while subprocess.run(["scontrol", "ping"], capture_output=True).returncode:
            time.sleep(AGAIN_S)
        submit(executor, job)

    slurm.query_job_status = until_answered
    slurm.get_min_job_age = queue.min_job_age
    slurm.Executor.run_job = submit_when_it_answers
    slurm.Executor.get_account_arg = account_words


def account_words(_, job):
    """The account for sbatch, if the config or the profile names one."""
    account = job.resources.get("slurm_account")
    yield f" -A {shlex.quote(str(account))}" if account else ""


mend(Queue(slurm.get_min_job_age))
