"""What Slurm says of our jobs, read so that no job is waited for in vain.

The executor takes these answers as they come, and with them three things as "still running": a
state with words behind it, a job that the queue has forgotten, and no answer at all.
"""

import re
from collections.abc import Callable, Mapping

LONGEST_GAP_S = 180  # between two looks of the executor; it grows to this
FORGOTTEN = "FAILED"  # nobody knows how it ended: the rule is tried again, and goes on

_REFUSED = re.compile(r"The error message was '(?:sbatch: error: )?(.+?)'", re.DOTALL)
_ENDED = re.compile(r"SLURM-job '(.+?)' failed.*?status is: '(.+?)'", re.DOTALL)
_OURS = re.compile(r"^error: (.+)$", re.MULTILINE)


class Queue:
    """The jobs of one run, over many looks."""

    def __init__(self, min_job_age: Callable[[], int | None]) -> None:
        self._ask_min_job_age = min_job_age
        self._min_job_age_s: int | None = None
        self._seen: set[str] = set()

    def read(self, answer: Mapping[str, str], *, is_complete: bool) -> dict[str, str]:
        """Job -> state, one word each.

        `is_complete`: the answer is that of the queue, which has every job that it has not
        forgotten; the accounting may learn of a job later.
        """
        states = {job: state.split()[0].rstrip("+") for job, state in answer.items() if state}
        gone = self._seen - states.keys() if is_complete else set()
        self._seen |= states.keys()
        return {**dict.fromkeys(gone, FORGOTTEN), **states}

    def min_job_age(self) -> int:
        """Seconds for which the queue remembers a job that has ended; 0: too short for our looks.

        What was known stays known while Slurm's controller does not answer.
        """
        self._min_job_age_s = self._ask_min_job_age() or self._min_job_age_s
        age_s = self._min_job_age_s or 0
        return age_s if age_s > LONGEST_GAP_S else 0


def why_failed(message: str, log: str) -> str:
    """One sentence from the executor's message and the job's log: the first error is the cause."""
    if found := _REFUSED.search(message):
        return f"Slurm did not take the job: {' '.join(found[1].split())}."
    ended = _ENDED.search(message)
    how = f"Slurm job {ended[1]} ended as {ended[2]}" if ended else message.strip()
    ours = _OURS.search(log)
    return f"{how}: {ours[1]}" if ours else f"{how}."
