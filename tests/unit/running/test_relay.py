import io
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from distributed_downloader.running.relay import relay

HOUSE = Path(__file__).parents[3]


def python(program):
    return [sys.executable, "-c", program]


def test_lines_are_heard_and_all_is_shown():
    heard, shown = [], io.StringIO()
    program = (
        "import sys; print('one', flush=True); print('two', file=sys.stderr); print('3', end='')"
    )
    assert relay(python(program), heard.append, shown) == 0
    assert sorted(filter(None, heard)) == ["3", "one", "two"]
    assert sorted(shown.getvalue()) == sorted("one\ntwo\n3")


@pytest.mark.parametrize(
    ("program", "code"),
    [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL)],
)
def test_exit_code_is_told(program, code):
    assert relay(python(program), lambda line: None, None) == code


def test_cut_characters_and_bytes_that_are_no_text_are_survived():
    heard = []
    program = (
        "import os, time\n"
        "for piece in (b'n\\xc3', b'\\xb6t', b'ig\\n', b'\\xff\\n'):\n"
        "    os.write(1, piece); time.sleep(.01)"
    )
    assert relay(python(program), heard.append, None) == 0
    assert heard == ["nötig", "\N{REPLACEMENT CHARACTER}", ""]


def test_much_is_passed_on_whole():
    heard = []
    program = "import sys; [print('x' * 100, i) for i in range(20_000)]"
    assert relay(python(program), heard.append, None) == 0
    assert heard == [*(f"{'x' * 100} {i}" for i in range(20_000)), ""]


def test_grandchild_that_keeps_our_pipe_is_not_waited_for():
    program = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(child.pid)\n"
    )
    heard = []
    began = time.monotonic()
    assert relay(python(program), heard.append, None) == 0
    assert time.monotonic() - began < 30
    os.kill(int(heard[0]), signal.SIGKILL)


def test_missing_program_leaves_nothing_open():
    with pytest.raises(FileNotFoundError):
        relay(["/nowhere/snakemake"], lambda line: None, None)


def test_on_a_terminal_the_child_has_a_terminal_of_its_width():
    outlet, inlet = pty.openpty()
    termios.tcsetwinsize(inlet, (24, 77))
    heard = []
    with os.fdopen(inlet, "w") as terminal:
        program = "import os; print(os.isatty(2), os.get_terminal_size(1).columns)"
        assert relay(python(program), heard.append, terminal) == 0
        assert os.read(outlet, 1000).decode().split() == ["True", "77"]
    os.close(outlet)
    assert heard[0].rstrip() == "True 77"


def test_child_is_asked_to_end_when_we_are_killed(tmp_path):
    told = tmp_path / "told"
    os.mkfifo(told)
    child = (
        "import signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "print('ready', flush=True)\n"
        "signal.sigwait([signal.SIGTERM])\n"
        "with open(sys.argv[1], 'w') as file: file.write('stored')\n"
    )
    parent = (
        "import sys\n"
        "from distributed_downloader.running.relay import relay\n"
        "relay([sys.executable, '-c', *sys.argv[1:]], lambda line: None, sys.stderr)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, child, str(told)],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HOUSE / "scripts")},
    ) as process:
        assert process.stderr.readline() == b"ready\n"
        process.kill()
        assert told.read_text() == "stored"
