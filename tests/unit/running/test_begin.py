"""A run's first steps: nothing before all is checked, one lock, signals that reach the writer."""

import math
import os
import signal
import threading

import pytest

from distributed_downloader.configuration.environment import CONFIG_VARIABLE
from distributed_downloader.errors import ConfigError, LockError
from distributed_downloader.running import begin
from distributed_downloader.running.leftovers import remove_leftovers
from distributed_downloader.storage.holder import RUN_VARIABLE
from distributed_downloader.storage.lock import Lock
from tests.unit.conftest import make_settings


@pytest.fixture
def at_exit(monkeypatch):
    """What is registered for the end of the process; done at the end of the test."""
    registered = []
    monkeypatch.setattr(begin.atexit, "register", registered.append)
    monkeypatch.setenv(RUN_VARIABLE, "")
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield registered
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for one in reversed(registered):
        one()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"politeness": {"allow_private_addresses": False}}, "names no contact"),
        ({"politeness": {"group_by": "table"}}, "group_table"),
        ({"politenes": {}}, "politenes"),
    ],
)
def test_a_wrong_config_is_told_before_anything_is_made(tmp_path, wrong, told):
    given = {
        "path_to_input": str(tmp_path / "urls.txt"),
        "path_to_output": str(tmp_path / "out"),
        "politeness": {"allow_private_addresses": True},
        **wrong,
    }
    with pytest.raises(ConfigError, match=told):
        begin.settings_for(given)
    assert not (tmp_path / "out").exists()


def test_the_input_is_a_file_a_folder_or_a_pattern(tmp_path):
    for name in ("a.csv", "b.csv", "sub/c.csv"):
        file = tmp_path / "lists" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x" * {"a.csv": 1, "b.csv": 20, "sub/c.csv": 300}[name])

    def held(path):
        return begin.input_bytes(make_settings(tmp_path, path_to_input=path))

    assert held(str(tmp_path / "lists/a.csv")) == 1
    assert held(str(tmp_path / "lists")) == 321
    assert held(str(tmp_path / "lists/*.csv")) == 21
    assert held(str(tmp_path / "gone.csv")) == 0
    assert held("s3://bucket/list.csv") == math.inf  # nobody is asked for it


def test_a_second_run_of_one_folder_is_refused_and_the_first_goes_on(tmp_path, at_exit):
    (tmp_path / "urls.txt").write_text("http://a.test/1.jpg\n")
    settings = make_settings(tmp_path)
    end_live_line = begin.begin_run(settings, {})
    assert "progress" in [thread.name for thread in threading.enumerate()]
    end_live_line()
    assert "progress" not in [thread.name for thread in threading.enumerate()]
    assert os.environ[RUN_VARIABLE]
    with pytest.raises(LockError, match="in use by the workflow"):
        begin.begin_run(settings, {})
    assert settings.paths.run_lock.exists()


def signalled(tmp_path, at_exit):
    """Begin a run that catches SIGTERM as Snakemake does, and send it one."""
    (tmp_path / "urls.txt").write_text("http://a.test/1.jpg\n")
    settings = make_settings(tmp_path)
    received = []
    signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    begin.begin_run(settings, {})
    writer = Lock.acquire(settings.paths.writer_lock, role="wave 0")
    os.kill(os.getpid(), signal.SIGTERM)
    asked = writer.stop_requested()
    writer.release()
    return received, asked


def test_a_signal_asks_the_writer_to_stop_and_goes_on_to_snakemake(tmp_path, at_exit):
    begin._asked_to_end.clear()
    assert signalled(tmp_path, at_exit) == ([signal.SIGTERM], True)
    assert begin.was_asked_to_end()


def test_a_disk_that_takes_no_request_does_not_keep_the_signal(tmp_path, at_exit, monkeypatch):
    def refuse(path):
        raise LockError(f"cannot write {path}")

    monkeypatch.setattr(begin, "request_stop", refuse)
    assert signalled(tmp_path, at_exit) == ([signal.SIGTERM], False)


def test_a_job_has_the_settings_that_its_run_began_with(at_exit, tmp_path):
    (tmp_path / "urls.txt").write_text("http://a.test/1.jpg\n")
    settings = make_settings(tmp_path, downloader_parameters={"batch_size": 8})
    begin.begin_run(settings, settings.raw)
    edited = make_settings(tmp_path, downloader_parameters={"batch_size": 9}).raw
    inside, file = begin.settings_of_run(edited, os.environ)
    assert inside.batch_size == 8
    assert file.parent == settings.paths.configs
    anew, other = begin.settings_of_run(edited, {})
    assert anew.batch_size == 9
    assert other != file


def test_what_dead_runs_left_in_the_root_goes_when_a_run_begins(tmp_path, at_exit):
    (tmp_path / "urls.txt").write_text("http://a.test/1.jpg\n")
    settings = make_settings(tmp_path)
    root = settings.paths.root
    (root / ".tmp-repeats-x1y2").mkdir(parents=True)
    (root / ".tmp-repeats-x1y2" / "0").touch()
    (root / ".tmp-0a1b-ledger.parquet").touch()
    (root / "kept.txt").touch()
    settings.paths.left.touch()
    settings.paths.checkpoint.write_text('{"stage"')
    begin.begin_run(settings, {})
    assert {path.name for path in root.iterdir()} == {"configs", "kept.txt", "run.lock"}


def test_what_somebody_may_be_at_work_on_stays(tmp_path):
    paths = make_settings(tmp_path).paths
    paths.root.mkdir()
    alive = [
        f".tmp-{os.getpid()}-checkpoint.json",
        ".tmp-0a1b-run.lock",
        ".tmp-0a1b-writer.lock.stop-9f",
    ]
    dead = [f".tmp-{2**22 + 1}-checkpoint.json", ".tmp-0a1b-checkpoint.json", ".tmp-x", ".tmp-a-b"]
    for name in (*alive, *dead):
        (paths.root / name).touch()
    paths.left.write_text('{"left": 1}')
    remove_leftovers(paths)
    assert {path.name for path in paths.root.iterdir()} == {*alive, "left.json"}
