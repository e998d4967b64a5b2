"""The fleet's own record of who asked for what and when: what the judge reads.

One JSON line a request, written when the request has arrived whole. `monotonic` is the machine's
clock since boot, so lines of several fleets, one after the other, can be counted together.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Access:
    """One request."""

    time: float  # unix seconds
    monotonic: float  # seconds
    host: str  # as in the plan; the Host header if no plan knows it
    group: str  # hosts that share one pace
    address: str
    method: str
    path: str  # with its query
    status: int  # 0: no HTTP answer (hung, reset, garbage)
    user_agent: str
    bytes: int  # of the body, as far as it will be sent
    connections: int  # open to this address at this moment


class AccessLog:
    """Appends lines that are in the file, whole, when `write` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, access: Access) -> None:
        """Append one line with one system call."""
        line = json.dumps({name: getattr(access, name) for name in Access.__slots__})
        os.write(self._descriptor, line.encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
