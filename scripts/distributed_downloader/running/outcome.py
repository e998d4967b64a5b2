"""Why a workflow failed, in the one sentence that a person needs.

What Snakemake prints is made for people who debug rules; the sentence of ours is somewhere in it.
"""

import re
import signal
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

_TAIL = 12  # lines, if there is no better answer
_OURS = re.compile(r"(?:\[[^\]]*\] )?error: (.+)")  # launchers may put the rank before it
_OTHERS = re.compile(r"[\w.@-]+: error: .+")  # sbatch, slurmstepd, snakemake's own options
_JOB_LOGS = re.compile(r"\s+log: (.+) \(check log file\(s\) for error details\)")
_LOGGED = re.compile(r"(\S+Z) ERROR \S+ \S+: (.+)")
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Outcome:
    """Listens to a workflow's lines and knows in the end what went wrong."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        self._ours: list[str] = []
        self._others: list[str] = []
        self._job_logs: list[Path] = []
        self._tail: deque[str] = deque(maxlen=_TAIL)

    def hear(self, line: str) -> None:
        """One more line."""
        line = plain(line)
        if not line.strip():
            return
        self._tail.append(line)
        if found := _OURS.fullmatch(line):
            self._ours.append(found[1])
        elif _OTHERS.fullmatch(line):
            self._others.append(line)
        elif found := _JOB_LOGS.fullmatch(line):
            self._job_logs += map(Path, found[1].split(", "))

    def sentence(self, returncode: int) -> str:
        """The first error told by us, in a failed job's log, by other programs; else the tail.

        The first: what fails later, fails because of it.
        """
        for sentences in (self._ours, self._logged(), self._others):
            if sentences:
                return sentences[0]
        how = f"exit code {returncode}"
        if returncode < 0:
            how = signal.Signals(-returncode).name
        last = "\n".join(self._tail)
        return f"The workflow ended with {how} (the same command goes on). Its last lines:\n{last}"

    def _logged(self) -> list[str]:
        """Errors that the failed jobs logged since we listen; logs go on from run to run."""
        return [
            found[2]
            for log in self._job_logs
            if log.is_file()
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
            if (found := _LOGGED.fullmatch(line)) and found[1] >= self._started
        ]


def plain(line: str) -> str:
    """The line without colours, and only what a redrawn line shows in the end."""
    return _COLOURS.sub("", line).rstrip("\r\n").rpartition("\r")[2]


def has_failed(rule: str, logs: Iterable[str | Path]) -> bool:
    """Whether Snakemake's logs of a run say that a job of this rule failed."""
    told = (Path(log).read_text(encoding="utf-8", errors="replace") for log in logs)
    return any(f"Error in rule {rule}:" in text for text in told)
