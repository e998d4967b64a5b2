import errno
import io
import logging
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from distributed_downloader.errors import ConfigError, InputError
from distributed_downloader.logs import reporting_errors, start_logging, stop_logging, tell
from distributed_downloader.wording import one_line

LOGS = start_logging.__module__
SCRIPTS = Path(__file__).parents[2] / "scripts"
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\w+) (\w+)/(\d+) ([\w.]+): (.*)", re.ASCII
)


@pytest.fixture(autouse=True)
def logging_stops():
    yield
    stop_logging()


@pytest.fixture
def log(tmp_path):
    return tmp_path / "logs" / "download" / "wave-1" / "rank-3.log"


def ours(name="distributed_downloader.test"):
    return logging.getLogger(name)


def test_line_has_time_level_stage_rank_logger_and_message(log):
    start_logging(log, "INFO", stage="download", rank=3)
    ours().info("batch %s started", "a/0")
    assert LINE.fullmatch(log.read_text().rstrip("\n")).groups() == (
        "INFO",
        "download",
        "3",
        "distributed_downloader.test",
        "batch a/0 started",
    )


def test_times_are_utc(log, monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    start_logging(log, "INFO", stage="download")
    record = ours().makeRecord("distributed_downloader.test", logging.INFO, "", 0, "x", (), None)
    record.created = 0.0
    ours().handle(record)
    assert log.read_text().startswith("1970-01-01T00:00:00.")


def test_log_is_appended_to(log):
    for message in ("first", "second"):
        start_logging(log, "INFO", stage="verify")
        ours().info(message)
    assert [line.rsplit(": ")[-1] for line in log.read_text().splitlines()] == ["first", "second"]


@pytest.mark.parametrize(("term", "before"), [("xterm", "\r\x1b[K"), ("dumb", "")])
def test_what_is_told_on_a_terminal_takes_the_live_line_away(monkeypatch, term, before):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    tell("resize: 229 images done")
    start_logging(None, "INFO", stage="resize")
    ours().warning("it is late")
    said = [f"{before}resize: 229 images done\n", f"{before}WARNING: it is late\n"]
    assert terminal.getvalue() == "".join(said)


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        ("DEBUG", ["debug", "info", "warning"]),
        ("info", ["info", "warning"]),
        ("WARNING", ["warning"]),
    ],
)
def test_level_decides_what_is_kept(log, level, kept):
    start_logging(log, level, stage="download")
    for word in ("debug", "info", "warning"):
        getattr(ours(), word)(word)
    assert [line.rsplit(": ")[-1] for line in log.read_text().splitlines()] == kept


def test_libraries_are_quiet_below_warning(log):
    start_logging(log, "DEBUG", stage="download")
    ours("httpx").info("HTTP Request: GET ...")
    ours("httpx").warning("odd")
    assert [line.rsplit(": ")[-1] for line in log.read_text().splitlines()] == ["odd"]


def test_warnings_reach_stderr_and_infos_do_not(log, capsys):
    start_logging(log, "DEBUG", stage="download")
    ours().info("quiet")
    ours().warning("loud")
    assert capsys.readouterr().err == "WARNING: loud\n"


def test_without_a_file_warnings_still_reach_stderr(capsys):
    start_logging(None, "INFO", stage="download")
    ours().error("loud")
    assert capsys.readouterr().err == "ERROR: loud\n"


@contextmanager
def heard_by_nobody_else():
    """Without the test runner's own handlers, which could not pass on what UTF-8 cannot say."""
    root = logging.getLogger()
    everybody = root.handlers
    root.handlers = [one for one in everybody if one.__class__.__module__ in (LOGS, "logging")]
    yield
    root.handlers = everybody


def test_strangers_cannot_forge_a_line(log):
    start_logging(log, "INFO", stage="download")
    with heard_by_nobody_else():
        ours().info("failed: %s", "http://x/\n2020-01-01T00:00:00.000Z INFO\x1b[2J\udc80 é")
    (line,) = log.read_text().splitlines()
    assert line.endswith(r"http://x/\n2020-01-01T00:00:00.000Z INFO\x1b[2J\udc80 é")


def test_one_line_leaves_plain_text_alone():
    assert one_line("Überall 日本 100%") == "Überall 日本 100%"


def test_unknown_level_is_refused_in_one_sentence():
    with pytest.raises(ConfigError, match="Unknown logger_level 'LOUD': take one of DEBUG, INFO"):
        start_logging(None, "LOUD", stage="download")


def test_log_that_cannot_be_written_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "logs").write_text("a file where a folder should be")
    with pytest.raises(ConfigError, match=r"Cannot write the log .*logs/x\.log: .*"):
        start_logging(tmp_path / "logs" / "x.log", "INFO", stage="download")


def test_our_error_is_one_sentence_and_exit_1(log, capsys):
    start_logging(log, "INFO", stage="partition")
    with pytest.raises(SystemExit) as caught, reporting_errors():
        raise InputError("The list is empty: name another path_to_input.")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: The list is empty: name another path_to_input.\n"
    assert log.read_text().count("The list is empty") == 1


def test_interrupt_is_exit_130_without_a_traceback(log, capsys):
    start_logging(log, "INFO", stage="partition")
    with pytest.raises(SystemExit) as caught, reporting_errors():
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert capsys.readouterr().err == ""


def test_a_fault_of_ours_keeps_its_traceback_in_the_log(log, capsys):
    start_logging(log, "INFO", stage="partition")
    with pytest.raises(ZeroDivisionError), reporting_errors():
        _ = 1 // 0
    assert "Traceback (most recent call last)" in log.read_text()
    assert "ZeroDivisionError" in log.read_text()
    assert capsys.readouterr().err == ""  # python itself prints it at exit


def test_success_and_own_exit_codes_pass_through():
    with reporting_errors():
        pass
    with pytest.raises(SystemExit) as caught, reporting_errors():
        raise SystemExit(7)
    assert caught.value.code == 7


@pytest.mark.parametrize(
    ("body", "code", "err"),
    [
        ("raise LockError('Held.')", 1, r"error: Held\.\n"),
        ("raise KeyboardInterrupt", 130, ""),
        ("print('x' * 100_000, flush=True)", 141, ""),
        ("raise ValueError('bug')", 1, r"Traceback [\s\S]*ValueError: bug\n"),
    ],
)
def test_a_script_ends_with_the_code_and_the_words(body, code, err):
    program = (
        "from distributed_downloader.logs import reporting_errors\n"
        "from distributed_downloader.errors import LockError\n"
        f"with reporting_errors():\n    {body}\n"
    )
    reader, writer = os.pipe()
    os.close(reader)  # whoever read the output went away
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
            check=False,
        )
    finally:
        os.close(writer)
    assert done.returncode == code
    assert re.fullmatch(err, done.stderr)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_nothing_is_a_sentence_and_not_a_fault_of_ours(capsys, number):
    with pytest.raises(SystemExit) as caught, reporting_errors():
        raise OSError(number, os.strerror(number), "/out/x")
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: Cannot write /out/x: {os.strerror(number)}.")


def test_an_error_that_could_not_be_raised_goes_to_the_log_alone(tmp_path, capsys):
    class Ghost:
        def __del__(self):
            raise RuntimeError("cannot let go")

    log = tmp_path / "stage.log"
    start_logging(log, "INFO", stage="test")
    with reporting_errors():
        ghost = Ghost()
        del ghost
    assert "cannot let go" in log.read_text()
    assert capsys.readouterr().err == ""


def test_a_log_that_the_disk_does_not_take_is_silent(capsys):
    start_logging(Path("/dev/full"), "INFO", stage="test")
    logging.getLogger("distributed_downloader").info("a line")
    assert capsys.readouterr().err == ""
