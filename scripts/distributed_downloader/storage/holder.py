"""Who holds a lock, where that process lives, and what can be known about it from here.

Nothing here trusts a shared clock, a shared /tmp or fcntl: cluster file systems have none of them.
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

BEAT_S = 3.0  # between two heartbeats of a holder
STALE_S = 60.0  # of the observer's own clock without a heartbeat: dead
RUN_VARIABLE = "DOWNLOADER_RUN"  # the nonce of the run that started this job
RESTARTS_VARIABLE = "DOWNLOADER_RESTARTS"  # SLURM_RESTART_COUNT, which Snakemake keeps from ranks
_SQUEUE_S = 20.0
_OVER = frozenset(  # states in which no process of a job runs; pending: requeued, not yet again
    {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "BOOT_FAIL"}
    | {"CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
    | {"TIMEOUT"}
)


@dataclass(frozen=True, slots=True)
class Holder:
    """What a lock file says: enough to tell a live process from a dead one, and from its heirs."""

    nonce: str
    role: str  # for people: "the workflow", "wave 3"
    since: str  # for people: UTC
    host: str
    boot_id: str  # "" where the system has none
    pid_space: str  # containers of one host count their processes apart
    pid: int
    started: str  # field 22 of /proc/<pid>/stat: a reused pid has another
    slurm_cluster: str
    slurm_job: str  # "" outside Slurm
    slurm_restarts: int
    run: str  # the nonce of the run that started this writer, "" if none did

    def to_bytes(self) -> bytes:
        """The lock file's content."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> "Holder | None":
        """The holder, or None if this is no whole lock file of ours."""
        try:
            value = json.loads(content)
            return cls(**{field.name: value[field.name] for field in fields(cls)})
        except (ValueError, KeyError, TypeError):
            return None

    def __str__(self) -> str:
        job = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        return f"{self.role} (host {self.host}, process {self.pid}{job}, since {self.since})"


def own_holder(nonce: str, role: str, environ: Mapping[str, str] = os.environ) -> Holder:
    """This process, as others will see it."""
    return Holder(
        nonce=nonce,
        role=role,
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        host=socket.gethostname(),
        boot_id=_boot_id(),
        pid_space=_pid_space(),
        pid=os.getpid(),
        started=process_started(os.getpid()) or "",
        slurm_cluster=environ.get("SLURM_CLUSTER_NAME", ""),
        slurm_job=environ.get("SLURM_JOB_ID", ""),
        slurm_restarts=_count(environ.get(RESTARTS_VARIABLE, "")),
        run=environ.get(RUN_VARIABLE, ""),
    )


def _count(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _pid_space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def process_started(pid: int) -> str | None:
    """When that process of this host started, in the kernel's ticks; None if there is none.

    "" if it exists but the system does not tell. A zombie no longer runs: None.
    """
    try:
        # the name, in brackets, may hold spaces and brackets itself: count from the last one
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        state, *others = stat.rpartition(")")[2].split()
        return None if state in {"Z", "X", "x"} else others[18]
    except (OSError, ValueError, IndexError):
        return "" if _exists(pid) else None  # no /proc, or one that hides other users' processes


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def slurm_job_is_over(job: str) -> bool | None:
    """What squeue says; None if there is no Slurm here or it does not answer."""
    squeue = shutil.which("squeue")
    if squeue is None or not job:
        return None
    command = [squeue, "--noheader", "--jobs", job, "--format", "%T"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SQUEUE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return True if "Invalid job id" in done.stderr else None
    return all(state in _OVER for state in done.stdout.split())


@dataclass(frozen=True, slots=True)
class Probe:
    """How this process finds out about others; tests put fakes in."""

    process_started: Callable[[int], str | None] = process_started
    slurm_job_is_over: Callable[[str], bool | None] = slurm_job_is_over
    stale_s: float = STALE_S

    def asking_slurm_once(self) -> "Probe":
        """The same, with one question per job: squeue is not for polling, silence decides too."""
        return replace(self, slurm_job_is_over=cache(self.slurm_job_is_over))

    def is_dead(self, holder: Holder | None, me: Holder, quiet_s: float) -> bool:
        """Whether this holder, whose heartbeat stood still for `quiet_s`, holds nothing any more.

        1. its process is gone from this same boot of this same host, or the pid is another's;
        2. Slurm says its job is over, or it is an earlier start of our own job, and a few
           heartbeats failed to come (what `salloc` started, or a lost node still runs, may
           outlive its job; what is told to end still beats);
        3. silent for `stale_s`: whatever else, also a process that is there but stopped, and a
           broken file.
        """
        if quiet_s >= self.stale_s:
            return True
        if holder is None:
            return False
        if _same_place(holder, me):
            return not self._runs(holder)
        return quiet_s >= 3 * BEAT_S and self._slurm_ended(holder, me)

    def _runs(self, holder: Holder) -> bool:
        started = self.process_started(holder.pid)
        return started is not None and (
            started == holder.started or "" in {started, holder.started}
        )

    def _slurm_ended(self, holder: Holder, me: Holder) -> bool:
        if not holder.slurm_job or me.slurm_cluster not in {"", holder.slurm_cluster}:
            return False
        if holder.slurm_job == me.slurm_job:
            return holder.slurm_restarts < me.slurm_restarts
        return self.slurm_job_is_over(holder.slurm_job) is True


def _same_place(one: Holder, other: Holder) -> bool:
    return bool(one.boot_id) and (one.host, one.boot_id, one.pid_space) == (
        other.host,
        other.boot_id,
        other.pid_space,
    )
