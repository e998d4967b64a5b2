"""Images encoded outside of the rank: whatever a decoder does, the rank lives on.

1. No decoder runs in a rank. Each codec thread hands its images to a process (`decoder`), which is
   started when an image comes and finds none idle, and kept; one before anything is asked for.
2. A process that dies takes its image with it, and nothing else: the image is tried once more in a
   new one (something else may have killed the first), then it is `decoder_crashed`; one that had
   all its time is `too_costly` at once.
3. A process that can be started by no means ends the rank, with a sentence: nothing is wrong with
   the images.

It costs 0.05 ms for the way there and back of a photo of 190 KB, about 1 ms of CPU with the caches
that a change of process leaves cold (an image takes 6.4 ms; tests/benchmarks/bench_codec.py), 0.1 s
at the start, and 26 MB for each process.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from distributed_downloader.codec.decoder import MOST_CPU_S
from distributed_downloader.codec.frames import (
    READY,
    BrokenFrameError,
    outcome_of,
    receive,
    send,
)
from distributed_downloader.errors import DownloaderError
from distributed_downloader.records import CONTENT_CODE, Encoded, ErrorClass, Failed
from distributed_downloader.settings import Images

START_S = 60.0  # until it is ready, from a slow disk
MOST_WALL_S = 4.0 * MOST_CPU_S  # for one that waits for ever, without using its time
STARTS = 3
Promised = Mapping[str, str | None]  # the arguments of `images.encode` about the body's hash
NOTHING_PROMISED: Promised = {"expected_hash": None, "hash_kind": "md5"}

_LIBRARY = Path(__file__).resolve().parents[2]
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "VIRTUAL_ENV", "TMPDIR")


class _DiedError(Exception):
    """The process is gone, or no longer to be trusted; says how."""

    def __init__(self, how: str, *, is_out_of_time: bool = False, was_killed: bool = False) -> None:
        super().__init__(how)
        self.is_out_of_time = is_out_of_time
        self.was_killed = was_killed  # by SIGKILL, as a system without memory does


class _Process:
    """A running `decoder`. Raises _DiedError when it is not any more, and OSError at its start."""

    def __init__(self, images: Images) -> None:
        ours, theirs = socket.socketpair()
        self._images = images
        self._socket = ours
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        paths = [str(_LIBRARY), *filter(None, [os.environ.get("PYTHONPATH")])]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "distributed_downloader.codec.decoder", _json(images)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**kept, "PYTHONPATH": os.pathsep.join(paths)},
            )
        if self._answer(time.monotonic() + START_S)[0] != READY:
            raise self._died("it says that it is not ready")

    def encode(self, body: bytes, promised: Promised) -> Encoded | Failed:
        """The outcome of one image."""
        until = time.monotonic() + MOST_WALL_S
        try:
            self._socket.settimeout(MOST_WALL_S)
            send(self._socket, promised, body)
        except OSError:
            raise self._died("it takes no image") from None
        told, data = self._answer(until)
        try:
            return outcome_of(told, data, body, keep_original=self._images.keep_original)
        except BrokenFrameError as error:
            raise self._died(str(error)) from None

    def close(self) -> None:
        """Let it go; it ends by itself."""
        self._socket.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self, until: float) -> tuple[object, bytes]:
        try:
            self._socket.settimeout(max(0.01, until - time.monotonic()))
            message = receive(self._socket, 4 * self._images.max_pixels + 2**16)
        except TimeoutError:
            raise self._died("no answer", is_out_of_time=True) from None
        except (OSError, BrokenFrameError) as error:
            raise self._died(str(error)) from None
        if message is None:
            raise self._died("it is gone")
        return message

    def _died(self, how: str, *, is_out_of_time: bool = False) -> _DiedError:
        """What to raise, once the process is gone for certain."""
        self._socket.close()
        try:
            code = self._process.wait(0.0 if is_out_of_time else 1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = 0
        if code >= 0:
            how = f"{how} (exit code {code})" if code else how
            return _DiedError(how, is_out_of_time=is_out_of_time)
        return _DiedError(
            f"{signal.Signals(-code).name}",
            is_out_of_time=-code == signal.SIGXCPU,
            was_killed=-code == signal.SIGKILL,
        )


class Codec:
    """Encodes images in processes; as many at once as it is given."""

    def __init__(self, images: Images, processes: int) -> None:
        self._images = images
        self._threads = ThreadPoolExecutor(processes, "codec")
        self._idle: list[_Process] = []  # append and pop are atomic

    async def encode(
        self, body: bytes, *, expected_hash: str | None = None, hash_kind: str = "md5"
    ) -> Encoded | Failed:
        """As `images.encode`, whatever the body does to its decoder. Raises DownloaderError."""
        promised = {"expected_hash": expected_hash, "hash_kind": hash_kind}
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.encode_here, body, promised)

    def warm_up(self) -> None:
        """Start a process for the first image, which need not wait; what fails is told by that."""
        with suppress(DownloaderError):
            self._idle.append(self._started())

    def close(self) -> None:
        """End what is idle, once what is under way has ended."""
        self._threads.shutdown()
        while self._idle:
            self._idle.pop().close()

    def encode_here(self, body: bytes, promised: Promised = NOTHING_PROMISED) -> Encoded | Failed:
        """As `encode`, in the calling thread: there are as many processes as threads that call."""
        try:
            return self._tried(body, promised)
        except _DiedError as first:
            if first.is_out_of_time:
                return _too_long()
        try:
            return self._tried(body, promised)
        except _DiedError as second:
            if second.is_out_of_time:
                return _too_long()
            message = f"its decoder died, twice: {second}"
            return Failed(
                ErrorClass.DECODER_CRASHED, CONTENT_CODE, message, retryable=second.was_killed
            )

    def _tried(self, body: bytes, promised: Promised) -> Encoded | Failed:
        process = self._process()
        outcome = process.encode(body, promised)
        self._idle.append(process)
        return outcome

    def _process(self) -> _Process:
        try:
            return self._idle.pop()
        except IndexError:
            return self._started()

    def _started(self) -> _Process:
        how: Exception | None = None
        for _ in range(STARTS):  # a signal may meet it before it can ignore it
            try:
                return _Process(self._images)
            except (_DiedError, OSError) as error:
                how = error
        raise DownloaderError(
            f"The process that decodes images does not start ({how}): see what is said above, "
            "look for memory and processes that are left, and run the same command again."
        )


def _too_long() -> Failed:
    message = f"it takes over {MOST_CPU_S} s to decode"
    return Failed(ErrorClass.TOO_COSTLY, CONTENT_CODE, message, retryable=False)


def _json(images: Images) -> str:
    return json.dumps(asdict(images))
