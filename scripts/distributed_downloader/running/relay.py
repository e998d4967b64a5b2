"""A long-running child process whose words pass through us to whoever started us.

1. The child is the head of a process group of its own, and we pass an interrupt on exactly once per
   Ctrl-C: a second one would end MPI ranks before they have stored what they hold.
2. If we die, the child is asked to end (SIGTERM).
3. On a terminal the child gets a terminal, else its colours and its live line would be lost.
"""

import codecs
import ctypes
import os
import pty
import select
import signal
import subprocess
import termios
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import FileIO
from typing import TextIO

_POLL_MS = 200
_CHUNK = 1 << 16
_PR_SET_PDEATHSIG = 1  # Linux: prctl(2)
_LIBC = ctypes.CDLL(None)


def relay(command: Sequence[str], hear: Callable[[str], None], show: TextIO | None) -> int:
    """Run the command; its exit code (negative: the signal that ended it).

    `hear` gets each line, `show` everything as it comes. An interrupt is passed on, and raised
    again when the child has ended.
    """
    outlet, inlet = _terminal(show) if show is not None and show.isatty() else os.pipe()
    try:
        child = _start(command, inlet)
    except OSError:
        os.close(outlet)
        raise
    finally:
        os.close(inlet)
    with child, FileIO(outlet) as mouth:
        try:
            interrupted = _pass_on(child, mouth, hear, show)
        except BaseException:
            _signal(child, signal.SIGTERM)
            raise
    if interrupted:
        raise KeyboardInterrupt
    return child.returncode


def _start(command: Sequence[str], inlet: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=inlet,
        stderr=inlet,
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509  one system call, of what is loaded already
    )


def _end_with_parent() -> None:
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _terminal(like: TextIO) -> tuple[int, int]:
    """Both ends of a new terminal, as wide as that one."""
    outlet, inlet = pty.openpty()
    with suppress(OSError, ValueError, termios.error):
        termios.tcsetwinsize(inlet, termios.tcgetwinsize(like.fileno()))
    return outlet, inlet


def _pass_on(
    child: subprocess.Popen[bytes],
    mouth: FileIO,
    hear: Callable[[str], None],
    show: TextIO | None,
) -> bool:
    """Until the child has ended; whether an interrupt came."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    line, interrupted, ended = "", False, False
    while not ended:
        try:
            piece = _read(child, mouth)
            ended = piece is None
            text = decoder.decode(piece or b"", final=ended)
            if show is not None:
                show.write(text)
                show.flush()
            *lines, line = (line + text).split("\n")
            for whole in [*lines, line] if ended else lines:
                hear(whole)
        except KeyboardInterrupt:
            interrupted = True
            _signal(child, signal.SIGINT)
    return interrupted


def _read(child: subprocess.Popen[bytes], mouth: FileIO) -> bytes | None:
    """What it says next; None when it has ended and all it said is read.

    Grandchildren that outlive it may keep our pipe open: nobody waits for them.
    """
    poll = select.poll()
    poll.register(mouth, select.POLLIN)
    while True:
        has_ended = child.poll() is not None
        if poll.poll(0 if has_ended else _POLL_MS):
            try:
                piece = mouth.read(_CHUNK)
            except OSError:  # a terminal that nobody writes to any more says so
                piece = b""
            if piece:
                return piece
            child.wait()
            return None
        if has_ended:
            return None


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """As a terminal does it: to the child's whole group."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)
