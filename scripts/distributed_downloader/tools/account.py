"""What a job did, by all of its ranks, and the sentence for what went wrong."""

from dataclasses import dataclass, field
from pathlib import Path

from distributed_downloader.errors import DownloaderError, ToolError

NAMED = 3  # so many failures are told, the rest is counted


@dataclass(slots=True)
class Account:
    """What one rank did, or all of them."""

    partitions: int = 0  # done
    images: int = 0  # in them
    removed: int = 0  # taken out of the dataset
    failures: list[str] = field(default_factory=list)
    fatal: str | None = None  # the sentence of what stopped everybody

    def add(self, other: "Account") -> None:
        """Sum up."""
        self.partitions += other.partitions
        self.images += other.images
        self.removed += other.removed
        self.failures += other.failures
        self.fatal = self.fatal or other.fatal


def complain(tool: str, whole: Account, planned: int, stopped: str | None, logs: Path) -> None:
    """Raise ToolError for what no exit code 0 may hide."""
    if whole.fatal:
        raise ToolError(whole.fatal)
    failures = whole.failures
    if failures:
        more = f"; and {len(failures) - NAMED} more" if len(failures) > NAMED else ""
        raise ToolError(
            f"{tool} failed for {len(failures)} of {planned} partitions: "
            f"{'; '.join(failures[:NAMED])}{more}. See the logs in {logs / 'tools'}; "
            "the same command tries these again."
        )
    if stopped == "out of time" and not whole.partitions:
        raise ToolError(
            f"{tool} ran out of time before it was done with one partition: give "
            "run_tool a longer runtime in the profile."
        )


def reason(error: Exception) -> str:
    """What an error says; if it is none of ours, with its name."""
    if isinstance(error, DownloaderError | NotImplementedError):
        return str(error)
    return f"{type(error).__name__}: {error}"
