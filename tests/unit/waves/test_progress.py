import io
import json
import math
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.waves.progress import (
    Display,
    Progress,
    countdown,
    line,
    read_progress,
    watch,
    write_progress,
)

WAVE = Progress(
    stage="download",
    wave=2,
    done=1240,
    total=5000,
    images=1228,
    errors=12,
    images_per_second=98.4,
    bytes=10**9,
    predicted_left_s=38.0,
    ranks=4,
    started=1000.0,
    updated=1012.5,
    blocked=("slow.example",),
)


class Terminal(io.StringIO):
    def isatty(self):
        return True

    @property
    def screen(self):
        """The lines as a terminal shows them: \\r and erase understood, spaces at the end cut."""
        rows, column = [""], 0
        for piece in self.getvalue().replace("\x1b[K", "\0"):
            if piece == "\n":
                rows, column = [*rows, ""], 0
            elif piece == "\r":
                column = 0
            elif piece == "\0":
                rows[-1] = rows[-1][:column]
            else:
                rows[-1] = rows[-1][:column].ljust(column) + piece + rows[-1][column + 1 :]
                column += 1
        return rows


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "checkpoint.json"


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            "wave 2: 1,240 of 5,000 images (24%), 98/s, 12 errors, 0:38 left, 1 group resting",
        ),
        (
            {"blocked": ("a", "b"), "errors": 1, "images_per_second": 3.14159},
            "wave 2: 1,240 of 5,000 images (24%), 3.1/s, 1 error, 0:38 left, 2 groups resting",
        ),
        ({"blocked": (), "errors": 0}, "wave 2: 1,240 of 5,000 images (24%), 98/s, 0:38 left"),
        (
            {"blocked": (), "errors": 0, "done": 0, "images_per_second": 0.0},
            "wave 2: 0 of 5,000 images (0%), 0:38 left",
        ),
        (
            {"blocked": (), "errors": 0, "done": 4999, "predicted_left_s": None},
            "wave 2: 4,999 of 5,000 images (99%), 98/s",
        ),
        (
            {"blocked": (), "errors": 0, "done": 5000},
            "wave 2: 5,000 of 5,000 images (100%), 98/s",
        ),
        (
            {"done": 0, "total": 0, "blocked": (), "errors": 0, "images_per_second": math.nan},
            "wave 2: 0 of 0 images",
        ),
        (
            {"stage": "profile", "wave": None, "blocked": (), "errors": 0},
            "profile: 1,240 of 5,000 (24%), 98/s, 0:38 left",
        ),
        (
            {"predicted_left_s": math.inf, "images_per_second": 12345.6, "blocked": ()},
            "wave 2: 1,240 of 5,000 images (24%), 12,346/s, 12 errors",
        ),
    ],
)
def test_line_says_what_matters(changes, expected):
    assert line(replace(WAVE, **changes)) == expected


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (80, "wave 2: 1,240 of 5,000 images (24%), 98/s, 12 errors, 0:38 left, 1 group resting"),
        (79, "wave 2: 1,240 of 5,000 images (24%), 98/s, 12 errors, 0:38 left"),
        (60, "wave 2: 1,240 of 5,000 images (24%), 98/s, 0:38 left"),
        (50, "wave 2: 1,240 of 5,000 images (24%), 0:38 left"),
        (40, "wave 2: 1,240 of 5,000 images (24%)"),
        (10, "wave 2: 1,"),
        (0, ""),
    ],
)
def test_least_important_goes_first_when_it_is_narrow(width, expected):
    assert line(WAVE, width) == expected


@given(
    width=st.integers(0, 200),
    done=st.integers(0, 10**12),
    total=st.integers(0, 10**12),
    left=st.none() | st.floats(),
    speed=st.floats(),
)
def test_line_always_fits(width, done, total, left, speed):
    progress = replace(WAVE, done=done, total=total, predicted_left_s=left, images_per_second=speed)
    assert len(line(progress, width)) <= width


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "0:00"),
        (-5, "0:00"),
        (0.2, "0:01"),
        (59.5, "1:00"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (86399, "23:59:59"),
        (86400, "1 day 0 h"),
        (116 * 86400 + 7200, "116 days 2 h"),
    ],
)
def test_countdown_is_readable(seconds, expected):
    assert countdown(seconds) == expected


def test_what_is_written_is_read(checkpoint):
    write_progress(checkpoint, WAVE)
    write_progress(checkpoint, replace(WAVE, done=1300))
    assert read_progress(checkpoint) == replace(WAVE, done=1300)
    assert [file.name for file in checkpoint.parent.iterdir()] == ["checkpoint.json"]


def test_no_room_for_progress_stops_nobody(tmp_path):
    write_progress(tmp_path / "no such folder" / "checkpoint.json", WAVE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"stage": "download"}',
        json.dumps({"stage": 1}).encode(),
    ],
)
def test_half_a_file_says_nothing(checkpoint, content):
    checkpoint.write_bytes(content)
    assert read_progress(checkpoint) is None


def test_wrong_types_say_nothing(checkpoint):
    write_progress(checkpoint, WAVE)
    for name in ("done", "bytes", "images_per_second", "blocked", "wave"):
        value = json.loads(checkpoint.read_text()) | {name: {} if name != "blocked" else 3}
        checkpoint.write_text(json.dumps(value))
        assert read_progress(checkpoint) is None, name
        write_progress(checkpoint, WAVE)


class Seconds:
    """A clock that stands until it is told to go on."""

    now = 100.0

    def __call__(self):
        return self.now


def updates():
    """Progress that moves on with each call."""
    for done in range(1, 1000):
        yield replace(WAVE, done=done, blocked=(), errors=0, predicted_left_s=None)


@pytest.fixture
def terminal(checkpoint):
    stream, clock = Terminal(), Seconds()
    display = Display(checkpoint, stream, now=clock)
    yield display, stream, clock
    display.close()


def test_terminal_shows_one_line_that_is_drawn_again(terminal, checkpoint):
    display, stream, _ = terminal
    for progress, _ in zip(updates(), range(3), strict=False):
        write_progress(checkpoint, progress)
        display.show()
    assert stream.screen == ["wave 2: 3 of 5,000 images (0%), 98/s"]


def test_line_gives_way_to_what_others_write(terminal, checkpoint):
    display, stream, _ = terminal
    write_progress(checkpoint, WAVE)
    display.show()
    stream.write("Finished job 3\n")
    assert stream.screen == ["Finished job 3", ""]
    display.show()
    assert stream.screen == ["Finished job 3", line(WAVE)]


def test_nothing_is_left_on_the_terminal(terminal, checkpoint):
    display, stream, _ = terminal
    write_progress(checkpoint, WAVE)
    display.show()
    display.close()
    stream.write("The end\n")
    assert stream.screen == ["The end", ""]
    assert "write" not in vars(stream)


def test_file_of_an_earlier_run_is_not_shown(checkpoint):
    write_progress(checkpoint, WAVE)
    stream = Terminal()
    display = Display(checkpoint, stream, now=Seconds())
    display.show()
    assert stream.getvalue() == ""
    write_progress(checkpoint, WAVE)  # the same words, but of now
    display.show()
    assert stream.screen == [line(WAVE)]
    display.close()


def test_line_goes_when_nobody_updates_the_file(terminal, checkpoint):
    display, stream, clock = terminal
    write_progress(checkpoint, WAVE)
    display.show()
    clock.now += 9
    display.show()
    assert stream.screen == [line(WAVE)]
    clock.now += 2
    display.show()
    assert stream.screen == [""]


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_a_job_that_has_ended_is_not_told_of_however_fresh_its_file(checkpoint, stream):
    lock = checkpoint.with_name("writer.lock")
    clock = Seconds()
    display = Display(checkpoint, stream, lock.exists, clock)
    clock.now += 60.0
    write_progress(checkpoint, replace(WAVE, done=51))
    display.show()
    assert not stream.getvalue()
    lock.touch()
    display.show()
    assert "51 of 5,000" in stream.getvalue()
    stream.truncate(stream.seek(0))
    lock.unlink()
    display._told_at = -math.inf  # a minute later
    display.show()
    assert "51 of" not in stream.getvalue()
    display.close()


def test_missing_and_half_files_are_survived(terminal, checkpoint):
    display, stream, _ = terminal
    display.show()
    write_progress(checkpoint, WAVE)
    display.show()
    checkpoint.write_text("{")
    display.show()
    assert stream.screen == [""]
    checkpoint.unlink()
    display.show()
    write_progress(checkpoint, WAVE)
    display.show()
    assert stream.screen == [line(WAVE)]


def test_without_a_terminal_a_plain_line_a_minute(checkpoint):
    stream, clock = io.StringIO(), Seconds()
    display = Display(checkpoint, stream, now=clock)
    seen = []
    for progress, _ in zip(updates(), range(150), strict=False):
        write_progress(checkpoint, progress)
        display.show()
        seen.append(stream.getvalue().count("\n"))
        clock.now += 1.0
    display.close()
    assert [seen[0], seen[59], seen[60], seen[119], seen[120]] == [0, 0, 1, 1, 2]
    assert stream.getvalue().splitlines()[0] == "wave 2: 61 of 5,000 images (1%), 98/s"
    assert "\r" not in stream.getvalue()


def test_dumb_terminal_gets_plain_lines(checkpoint, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream, clock = Terminal(), Seconds()
    display = Display(checkpoint, stream, now=clock)
    clock.now += 60.0
    write_progress(checkpoint, WAVE)
    display.show()
    display.close()
    assert stream.getvalue() == line(WAVE) + "\n"


def test_stream_that_went_away_is_survived(checkpoint):
    stream = Terminal()
    display = Display(checkpoint, stream, now=Seconds())
    write_progress(checkpoint, WAVE)
    stream.close()
    display.show()
    display.close()


def test_watch_shows_from_a_thread_and_stops(checkpoint, monkeypatch):
    shown = threading.Event()

    class Told(Terminal):
        def write(self, text):
            result = super().write(text)
            if "wave 2" in text:
                shown.set()
            return result

    monkeypatch.setattr("distributed_downloader.waves.progress.LOOK_S", 0.01)
    stream = Told()
    stop = watch(checkpoint, stream)
    write_progress(checkpoint, WAVE)
    assert shown.wait(20)
    stop()
    assert stream.screen == [""]
    assert "progress" not in [thread.name for thread in threading.enumerate()]
