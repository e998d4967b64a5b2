"""What decoders do to their process, and what a rank sees of it."""

import asyncio
import dataclasses
import hashlib
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from distributed_downloader.codec import processes
from distributed_downloader.codec.frames import (
    BrokenFrameError,
    outcome_of,
    receive,
    send,
    told_of,
)
from distributed_downloader.codec.images import encode
from distributed_downloader.codec.processes import Codec
from distributed_downloader.errors import DownloaderError
from distributed_downloader.records import CONTENT_CODE, Encoded, ErrorClass, Failed
from distributed_downloader.settings import Images

SCRIPTS = Path(__file__).parents[3] / "scripts"
SETTINGS = Images(64, "longest_side", "jpeg", 90, False, 10_000_000, 100_000_000, 200_000_000)


def saved(name="JPEG", size=(160, 120), **options):
    buffer = io.BytesIO()
    Image.new("RGB", size, (220, 30, 30)).save(buffer, name, **options)
    return buffer.getvalue()


@pytest.fixture
def codec():
    codec = Codec(SETTINGS, 1)
    yield codec
    codec.close()


def encoded(codec, *bodies):
    async def main():
        return [await codec.encode(body) for body in bodies]

    return asyncio.run(main())


def pid_of(codec):
    """Of its one process, which is idle."""
    (process,) = codec._idle
    return process._process.pid


class Struck(processes._Process):
    """A process that every image ends with a signal."""

    number = signal.SIGSEGV
    struck: list[int]

    def encode(self, body, promised):
        os.kill(self._process.pid, self.number)
        self.struck.append(self._process.pid)
        return super().encode(body, promised)


@pytest.fixture
def struck(monkeypatch):
    class Strike(Struck):
        struck = []  # noqa: RUF012 - of this test

    monkeypatch.setattr(processes, "_Process", Strike)
    return Strike


@pytest.mark.parametrize("changes", [{}, {"image_size": 0}, {"keep_original": True}])
def test_an_image_comes_back_as_if_it_had_been_encoded_here(changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    bodies = [saved(name) for name in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")]
    bodies += [saved(size=(20, 10)), b"", b"<html>", saved()[:-200], saved(size=(20_000, 6_000))]
    codec = Codec(settings, 2)
    try:
        assert encoded(codec, *bodies) == [encode(body, settings) for body in bodies]
    finally:
        codec.close()


def test_what_the_list_promises_is_looked_at_there(codec):
    body = saved()
    promises = [("md5", hashlib.md5(body).hexdigest()), ("sha256", "0" * 64)]

    async def main():
        return [await codec.encode(body, expected_hash=h, hash_kind=kind) for kind, h in promises]

    kept, refused = asyncio.run(main())
    assert isinstance(kept, Encoded)
    assert refused.error_class is ErrorClass.HASH_MISMATCH


def test_one_process_serves_many_images_and_ends_with_its_rank(codec):
    encoded(codec, *[saved()] * 3)
    pid = pid_of(codec)
    assert psutil.pid_exists(pid)
    codec.close()
    assert not psutil.pid_exists(pid)


def test_a_process_that_something_killed_costs_nothing(codec):
    encoded(codec, saved())
    dead = pid_of(codec)
    os.kill(dead, signal.SIGKILL)
    (outcome,) = encoded(codec, saved())
    assert isinstance(outcome, Encoded)
    assert pid_of(codec) != dead


@pytest.mark.parametrize(
    ("number", "word", "processes_used"),
    [
        (signal.SIGSEGV, ErrorClass.DECODER_CRASHED, 2),
        (signal.SIGABRT, ErrorClass.DECODER_CRASHED, 2),
        (signal.SIGKILL, ErrorClass.DECODER_CRASHED, 2),
        (signal.SIGXCPU, ErrorClass.TOO_COSTLY, 1),
    ],
)
def test_an_image_that_ends_its_process_is_a_value(codec, struck, number, word, processes_used):
    struck.number = number
    (outcome,) = encoded(codec, saved())
    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.error_code) == (word, CONTENT_CODE)
    # a system without memory kills, and has more of it in a later wave
    assert outcome.retryable is (number is signal.SIGKILL)
    assert len(set(struck.struck)) == processes_used
    assert not any(psutil.pid_exists(pid) for pid in struck.struck)


def test_a_process_that_hangs_is_ended_in_time(codec, struck, monkeypatch):
    struck.number = signal.SIGSTOP
    monkeypatch.setattr(processes, "MOST_WALL_S", 0.3)
    began = time.monotonic()
    (outcome,) = encoded(codec, saved())
    assert time.monotonic() - began < 30
    assert isinstance(outcome, Failed)
    assert outcome.error_class is ErrorClass.TOO_COSTLY
    assert not psutil.pid_exists(struck.struck[0])


@pytest.mark.parametrize(("name", "side"), [("PNG", 5_000), ("WEBP", 2_300)])
def test_memory_has_an_end_for_the_image_and_not_for_its_process(name, side):
    codec = Codec(dataclasses.replace(SETTINGS, max_decoder_bytes=80_000_000), 1)
    try:
        body = saved(name, size=(side, side), quality=1)
        small, large, again = encoded(codec, saved(), body, saved())
        assert isinstance(large, Failed)
        assert (large.error_class, large.retryable) == (ErrorClass.TOO_COSTLY, False)
        assert isinstance(small, Encoded)
        assert small == again
    finally:
        codec.close()


def test_the_process_has_few_rights(codec, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "s3cret")
    encoded(codec, saved())
    pid = pid_of(codec)

    def limit(what):
        return resource.prlimit(pid, what)[0]

    assert limit(resource.RLIMIT_AS) < SETTINGS.max_decoder_bytes + 600_000_000
    assert 0 < limit(resource.RLIMIT_CPU) < 60
    assert limit(resource.RLIMIT_FSIZE) == limit(resource.RLIMIT_CORE) == 0
    assert b"s3cret" not in Path(f"/proc/{pid}/environ").read_bytes()
    opened = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    assert {name.partition(":")[0] for name in opened} == {"/dev/null", "socket"}


def test_signals_that_are_meant_for_the_rank_do_not_end_it(codec):
    encoded(codec, saved())
    pid = pid_of(codec)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert isinstance(encoded(codec, saved())[0], Encoded)
    assert pid_of(codec) == pid


def test_a_rank_that_is_killed_leaves_no_process_behind():
    code = f"""
import asyncio, os, signal, sys
from distributed_downloader.codec.processes import Codec
from distributed_downloader.settings import Images
codec = Codec(Images(**{dataclasses.asdict(SETTINGS)}), 1)
asyncio.run(codec.encode(b"no image"))
print(codec._idle[0]._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    psutil.wait_procs([p for p in psutil.process_iter() if p.pid == int(done.stdout)], timeout=20)
    assert not psutil.pid_exists(int(done.stdout))


def test_the_first_image_finds_a_process_that_waits_for_it(codec):
    codec.warm_up()
    waiting = pid_of(codec)
    assert isinstance(encoded(codec, saved())[0], Encoded)
    assert pid_of(codec) == waiting


def test_a_process_that_does_not_start_is_no_fault_of_the_image(codec, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    codec.warm_up()  # there may be no image at all
    with pytest.raises(DownloaderError, match=r"does not start \(.*run the same command again"):
        encoded(codec, saved())


def test_warnings_come_back_with_their_image(codec):
    body = saved("PNG")
    no_frames = b"acTL" + b"\0" * 8  # an animation of none
    chunk = b"\0\0\0\x08" + no_frames + zlib.crc32(no_frames).to_bytes(4, "big")
    (outcome,) = encoded(codec, body[:33] + chunk + body[33:])
    assert isinstance(outcome, Encoded)
    assert outcome.warnings
    assert outcome.warnings.isprintable()
    assert encoded(codec, body)[0].warnings is None


# ---------------------------------------------------------------- frames

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
GOOD, _ = told_of(encode(saved(), SETTINGS), b"")


@given(JSON | st.fixed_dictionaries({key: JSON | st.just(GOOD[key]) for key in GOOD}))
def test_whatever_a_process_says_is_an_outcome_or_refused(told):
    try:
        outcome = outcome_of(told, b"data", b"body", keep_original=False)
    except BrokenFrameError:
        return
    assert isinstance(outcome, Encoded | Failed)


@given(st.binary(max_size=60))
def test_whatever_bytes_come_they_are_a_message_or_refused(junk):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(junk)
        theirs.close()
        try:
            message = receive(ours, 100)
        except BrokenFrameError:
            return
        assert message is None or isinstance(message, tuple)


def test_messages_of_any_size_arrive():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, {"a": "é"}, b"x" * 10_000)
        assert receive(theirs, 10_000) == ({"a": "é"}, b"x" * 10_000)
        send(ours, {}, b"x" * 101)
        with pytest.raises(BrokenFrameError, match="101 bytes"):
            receive(theirs, 100)


def test_what_goes_out_is_json():
    told, data = told_of(encode(saved(), SETTINGS), b"")
    assert json.loads(json.dumps(told)) == {**told, "sizes": [[120, 160], [48, 64]]}
    assert data.startswith(b"\xff\xd8")
