"""The process that decodes for a rank: one image after the other, until the rank lets go of it.

Decoders are C code that reads what strangers wrote. Here they may crash, hang or eat memory:
1. memory beyond `images.max_decoder_bytes` is not given; what needs it is `too_costly`;
2. an image may take `MOST_CPU_S`; the system ends who takes more;
3. no file can be written, none of the rank's is open, no core is dumped;
4. signals that are meant for the rank do not end it: the rank does, by going.
What decoders warn about comes back with the image; what they print goes nowhere.
"""

import json
import os
import resource
import signal
import socket
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed_downloader.codec.frames import READY, receive, send, told_of
from distributed_downloader.codec.images import encode
from distributed_downloader.records import Encoded, Failed
from distributed_downloader.settings import Images
from distributed_downloader.wording import one_line

MOST_CPU_S = 30  # a hundred megapixels take two to five
MOST_FILES = 64  # open at once: modules that are loaded late, and nothing else
NICENESS = 3  # the rank, which keeps the pace, goes first
MOST_WARNINGS = 3
_WARNING_CHARS = 120


def main() -> None:
    """Serve who started us, at the other end of stdin."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    images = Images(**json.loads(sys.argv[1]))
    rank = socket.socket(fileno=os.dup(0))
    _give_up_rights(images.max_decoder_bytes)
    send(rank, READY)
    _close_the_standard_streams()
    while (message := receive(rank, images.max_bytes)) is not None:
        promised, body = message
        _renew_cpu_time()
        send(rank, *told_of(with_warnings(body, images, **promised), body))


def with_warnings(body: bytes, images: Images, **promised: Any) -> Encoded | Failed:
    """`encode`, with what Pillow warned of as a value. Not for several threads at once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = encode(body, images, **promised)
    said = dict.fromkeys(one_line(str(each.message))[:_WARNING_CHARS] for each in caught)
    if isinstance(outcome, Failed) or not said:
        return outcome
    return replace(outcome, warnings="; ".join(list(said)[:MOST_WARNINGS]))


def _give_up_rights(max_bytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + max_bytes)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, MOST_FILES)
    os.nice(NICENESS)


def _limit(what: int, most: int) -> None:
    """For good, and no more than the site allows."""
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _renew_cpu_time() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + MOST_CPU_S + 1
    soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _close_the_standard_streams() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)


if __name__ == "__main__":
    main()
