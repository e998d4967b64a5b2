# What Snakemake's Slurm executor does not survive, mended on the login node. No rules here.
#
# 1. A look at the queue that brings no answer loses all jobs of that look: the run waits for ever.
#    Silence changes nothing now; nothing is submitted while the controller is away.
# 2. Some ends of a job are never recognised: `slurm_queue` says which. The queue is asked, and the
#    accounting only for jobs that the queue has forgotten; a question that hangs is given up.
# 3. Its looks begin late, grow by 10 s each, and cannot be interrupted: a run that is over, or told
#    to end, waits for the next one. `Pace` says when ours are.
# 4. Without an account it calls sacct, with one sacctmgr or sshare; where they are missing no job
#    starts. sbatch knows the user's account, and refuses a wrong one by itself.
# 5. What a job said lies in its log, and what sbatch said behind a page of ours: people get a sentence.
# 6. Inside a job all variables of Slurm but a few are dropped. How often the job was started again
#    tells a requeued wave that its predecessor's lock is a dead one.

import asyncio
import shlex
import shutil
import subprocess
import sys
import threading
import time

import snakemake_executor_plugin_slurm as slurm

from distributed_downloader.running.slurm_queue import Pace, Queue, why_failed
from distributed_downloader.storage.holder import RESTARTS_VARIABLE

AGAIN_S = 10  # until Slurm is asked again whether it takes jobs
ANSWER_S = 50  # for a question; the executor gives up after a minute, and leaves the asker behind
TICK_S = 1  # until a pause notices that a run is over
REQUEUES = "SLURM_RESTART_COUNT"


def mend(queue, pace):
    """Put ours in the place of what the executor calls."""
    ask, submit = slurm.query_job_status, slurm.Executor.run_job
    is_over = threading.Event()

    async def answer_to(command, logger):
        return await ask(f"timeout {ANSWER_S} {command}", logger)

    async def look(command, logger):
        said, seconds = await answer_to(command, logger)
        if said is None:
            return {}, 0.0
        recorded = None
        if lost := queue.forgotten(said):
            recorded, _ = await answer_to(ends_of(lost), logger)
        return queue.read(said, recorded or {}), seconds

    async def pause(executor):
        remote = executor.workflow.remote_execution_settings
        looked = time.monotonic()
        pause_s = TICK_S
        while executor.wait and time.monotonic() - looked < pause_s:
            await asyncio.sleep(TICK_S)
            if is_over.is_set():
                return
            with executor.lock:
                jobs = [str(job.external_jobid) for job in executor.active_jobs]
            queue.expect(jobs)
            pause_s = pace.pause_s(jobs, remote.seconds_between_status_checks)

    def submit_when_it_answers(executor, job):
        is_told = False
        while not (takes_jobs() or is_over.is_set()):
            is_told = is_told or tell_of_silence()
            is_over.wait(AGAIN_S)
        submit(executor, job)

    def ending(end):
        def end_now(executor):
            is_over.set()
            end(executor)

        return end_now

    tell = slurm.Executor.report_job_error

    def report_with_a_sentence(executor, job_info, msg=None, **others):
        print(sentence(job_info, msg or ""), file=sys.stderr, flush=True)
        tell(executor, job_info, msg=msg, **others)

    slurm.query_job_status = look
    slurm.query_job_status_sacct = slurm.query_job_status_squeue
    slurm.get_min_job_age = lambda: sys.maxsize  # the queue may forget: see `look`
    slurm.validate_status_command_settings = lambda settings, logger: None
    slurm.Executor.sleep = pause
    slurm.Executor.run_job = submit_when_it_answers
    slurm.Executor.cancel = ending(slurm.Executor.cancel)
    slurm.Executor.shutdown = ending(slurm.Executor.shutdown)
    slurm.Executor.get_account_arg = account_words
    slurm.Executor.report_job_error = report_with_a_sentence


def ends_of(jobs):
    """How these jobs ended, asked of the accounting."""
    return f"sacct -X -n -P -o JobIDRaw,State -j {','.join(sorted(jobs))}"


def takes_jobs():
    """Whether one of Slurm's controllers answers."""
    said = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
    return said.returncode == 0 or " UP" in said.stdout


def tell_of_silence():
    print(
        f"WARNING: Slurm does not answer: asked again every {AGAIN_S} s",
        file=sys.stderr,
        flush=True,
    )
    return True


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


def look_for_slurm():
    """Without its programs a run that submits jobs would wait for ever."""
    missing = [
        name for name in ("sbatch", "squeue", "scontrol") if not shutil.which(name)
    ]
    if missing and workflow.executor_plugin.name == "slurm":
        sys.exit(
            f"error: No {', '.join(missing)} here, so this is no login node of a Slurm cluster: "
            "start there, or with --profile profiles/local."
        )


if workflow.is_main_process:
    os.environ.pop(RESTARTS_VARIABLE, None)
elif REQUEUES in os.environ:
    os.environ[RESTARTS_VARIABLE] = os.environ[REQUEUES]

mend(Queue(), Pace())
