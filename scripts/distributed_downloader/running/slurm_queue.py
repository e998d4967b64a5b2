"""What Slurm says of our jobs, read so that no job is waited for in vain, and when to look again.

The executor takes answers as they come, and with them four things as "still running": a state with
words behind it, a job that the queue has forgotten, one that was preempted for good, and silence.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

LONGEST_PAUSE_S = 180.0
PAUSE_SHARE = 0.1  # of a job's age: so much longer, on average half of it, its end goes unseen
LOOKS_IN_DOUBT = 3  # until a job is given up for failed: the rule is tried again, and goes on
FAILED = "FAILED"

# Slurm may be about to start the job again: then the queue says so at the next look.
_MAY_COME_BACK = frozenset({"NODE_FAIL", "PREEMPTED"})
_ENDS = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", FAILED, "OUT_OF_MEMORY", "TIMEOUT"}
)
_REFUSED = re.compile(r"The error message was '(?:sbatch: error: )?(.+?)'", re.DOTALL)
_ENDED = re.compile(r"SLURM-job '(.+?)' failed.*?status is: '(.+?)'", re.DOTALL)
_OURS = re.compile(r"^error: (.+)$", re.MULTILINE)
_LATE = re.compile(r"^Timeout \((.+)\)!$", re.MULTILINE)  # faulthandler's word: see `open_world`

Answer = Mapping[str, str]  # job -> what was said of it


class Queue:
    """The jobs of one run, over many looks."""

    def __init__(self) -> None:
        self._open: set[str] = set()  # submitted, and no end of theirs was told yet
        self._doubts: Counter[str] = Counter()

    def expect(self, jobs: Iterable[str]) -> None:
        """Slurm took these: from now on its queue has them, or has forgotten them."""
        self._open |= set(jobs)

    def forgotten(self, answer: Answer) -> set[str]:
        """Jobs whose end nobody knows, and that the queue no longer has."""
        return self._open - answer.keys()

    def read(self, queue: Answer, accounting: Answer) -> dict[str, str]:
        """Job -> state, one word each; left out is of whom only a later look can tell.

        `accounting`: what it says of the forgotten ones. It may be late, silent, or not there.
        """
        states = {job: _word(said) for job, said in queue.items()}
        for job in self.forgotten(queue):
            end = _word(accounting.get(job, ""))
            states[job] = end if end in _ENDS else ""
        self._open |= states.keys()
        self._open -= {job for job, state in states.items() if state in _ENDS}
        return {job: told for job, state in states.items() if (told := self._in_doubt(job, state))}

    def _in_doubt(self, job: str, state: str) -> str:
        if state and state not in _MAY_COME_BACK:
            del self._doubts[job]
            return state
        self._doubts[job] += 1
        if self._doubts[job] < LOOKS_IN_DOUBT:
            return ""
        self._open.discard(job)
        return FAILED


def _word(said: str) -> str:
    """`CANCELLED by 1000` and `CANCELLED+` are CANCELLED."""
    return said.split(maxsplit=1)[0].rstrip("+") if said.strip() else ""


class Pace:
    """When to look at the queue again: the longer a job takes, the more rarely."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since: dict[str, float] = {}

    def pause_s(self, jobs: Iterable[str], least_s: float) -> float:
        """Seconds from one look to the next, for the youngest of these jobs."""
        now = self._now()
        self._since = {job: self._since.get(job, now) for job in jobs}
        youngest_s = now - max(self._since.values(), default=now)
        return max(least_s, min(PAUSE_SHARE * youngest_s, LONGEST_PAUSE_S))


def why_failed(message: str, log: str) -> str:
    """One sentence from the executor's message and the job's log: the first error is the cause."""
    if found := _REFUSED.search(message):
        return f"Slurm did not take the job: {' '.join(found[1].split())}."
    ended = _ENDED.search(message)
    how = f"Slurm job {ended[1]} ended as {ended[2]}" if ended else message.strip()
    if ours := _OURS.search(log):
        return f"{how}: {ours[1]}"
    if late := _LATE.search(log):
        return f"{how}: {late[1]} after the first rank started, not all of them were there."
    return f"{how}."
