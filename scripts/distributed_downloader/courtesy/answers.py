"""What goes into a group's pace, and what comes out: an answer, and its meaning beyond itself."""

from dataclasses import dataclass
from typing import Protocol

from distributed_downloader.courtesy.headers import Headers
from distributed_downloader.records import ErrorClass


class Answered(Protocol):
    """What one request brought; with neither status nor error_class it was given up by us."""

    @property
    def status(self) -> int | None:
        """HTTP status, None if no answer came."""

    @property
    def headers(self) -> Headers:
        """Names in any case; fields of one name are kept apart if they are pairs."""

    @property
    def latency_s(self) -> float:
        """Seconds from sending until the headers, or until it failed."""

    @property
    def nbytes(self) -> int:
        """Bytes of the body, as they came over the wire."""

    @property
    def error_class(self) -> ErrorClass | None:
        """Why there is no image."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means beyond itself."""

    costs_a_try: bool = True  # False: the group was stopped, the row is not to blame
    blocked_for_s: float = 0.0  # seconds until the group may be asked again
    is_server_down: bool = False  # the rest of this server's rows wait for a later wave
    is_in_burst: bool = False  # the server failed before it, too: perhaps the row is not to blame
    must_be_saved: bool = False  # a block, a lower rate: to the disk before it matters
    sentence: str | None = None  # for the log: what changed and why


def change_sentence(
    group: str, block: tuple[float, str] | None, rates: tuple[float, float]
) -> str | None:
    """What changed for a group, for the log: a block (seconds, cause), a rate (before, after)."""
    said = []
    if block is not None:
        said.append(f"left alone for {block[0]:.1f} s ({block[1]})")
    before, after = rates
    if after != before:
        word = "raised" if after > before else "cut"
        said.append(f"rate {word} from {before:.3g}/s to {after:.3g}/s")
    return f"{group}: {', '.join(said)}" if said else None
