"""What a round of the drill is: its config, what a lane is given, and what became of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.hands import Hand
from tests.chaos.kills import Kill
from tests.chaos.places import Place
from tests.forward_proxy import ForwardProxy
from tests.unit.codec.test_bad_images import SETTINGS as BAD_IMAGES
from tests.wire_modes import MOST_BYTES
from tests.workflow.conftest import CHECKOUT

FLUSH_S = 0.5
UNFLUSHED_S = FLUSH_S + 4.5  # what a kill may cost: the look at a buffer's age, a busy machine
DEADLINE_S = 150.0  # until all processes of a run are gone
RATE, SLACK = 20.0, 4.0  # requests/s, and what a busy machine may bring too early
MOST_MB = 600.0
KEPT = CHECKOUT / "build" / "drill"  # folders of rounds in which something did not hold

CONFIG: dict[str, Any] = {
    "downloader_parameters": {"default_rate_limit": RATE, "workers_per_node": 2, "batch_size": 16},
    "politeness": {
        "allow_private_addresses": True,
        "backoff": {"first_s": 0.2, "max_s": 1},
        "wait_s": 20,
    },
    "timeouts": {"connect_s": 3, "total_s": 4},
    "retries": {"per_row": 1, "waves": 2},
    "flush": {"seconds": FLUSH_S},
    # what the modes are made to exceed
    "images": {
        "max_bytes": MOST_BYTES,
        "max_pixels": BAD_IMAGES.max_pixels,
        "max_decoder_bytes": BAD_IMAGES.max_decoder_bytes,
    },
}
WE_ARE = {"header": "User-Agent: drill (mailto:drill@example.org)"}  # who asks for the public's


@dataclass
class Round:
    """What was done to a run, and what became of it."""

    lane: int
    folder: int
    began: float  # monotonic seconds
    hand: Hand
    kill: Kill = Kill.NONE
    again_s: float | None = None  # of a kill of the command given again; None: there was none
    stage: str = "-"
    at_s: float = 0.0  # of the kill, after the start
    gone_s: float = 0.0  # from the kill until all its processes were gone
    exit_code: int | None = None
    states: dict[str, int] = field(default_factory=dict)
    again: int = 0  # finished requests of before the kill that were asked anew in this round
    unflushed_s: float = 0.0  # the longest before a kill that one of those had been answered
    peak_mb: float = 0.0  # of the largest rank
    is_finished: bool = False
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ground:
    """What a lane is given: its number, the turns, and the servers with their log."""

    number: int
    seed: int
    hands: Iterator[Hand]
    places: Mapping[str, Place]
    log: Path
    proxy: ForwardProxy  # the only way out of folders with the address guard on
