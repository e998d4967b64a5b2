# What Snakemake's Slurm executor does not survive, mended on the login node. No rules here.
#
# 1. A look at the queue that brings no answer loses all jobs of that look: the run waits for ever.
#    We ask until there is an answer, and submit nothing while the controller is away.
# 2. Some ends of a job are never recognised: `slurm_queue` says which.
# 3. Without an account it calls sacct, with one sacctmgr or sshare; where they are missing no job
#    starts. sbatch knows the user's account, and refuses a wrong one by itself.
# 4. What a job said lies in its log, and what sbatch said behind a page of ours: people get a sentence.

import asyncio
import shlex
import subprocess
import sys
import time

import snakemake_executor_plugin_slurm as slurm

from distributed_downloader.running.slurm_queue import Queue, why_failed

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

    tell = slurm.Executor.report_job_error

    def report_with_a_sentence(executor, job_info, msg=None, **others):
        print(sentence(job_info, msg or ""), file=sys.stderr, flush=True)
        tell(executor, job_info, msg=msg, **others)

    slurm.query_job_status = until_answered
    slurm.get_min_job_age = queue.min_job_age
    slurm.Executor.run_job = submit_when_it_answers
    slurm.Executor.get_account_arg = account_words
    slurm.Executor.report_job_error = report_with_a_sentence


def account_words(_, job):
    """The account for sbatch, if the config or the profile names one."""
    account = job.resources.get("slurm_account")
    yield f" -A {shlex.quote(str(account))}" if account else ""


def sentence(job_info, message):
    """Why this job failed; no error yet if it is tried again."""
    log = Path((job_info.aux or {}).get("slurm_logfile") or os.devnull)
    said = log.read_text(errors="replace") if log.exists() else ""
    is_last = job_info.job.attempt > job_info.job.restart_times
    return f"{'error' if is_last else 'tried again'}: {why_failed(message, said)}"


mend(Queue(slurm.get_min_job_age))
