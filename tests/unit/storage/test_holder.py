import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from distributed_downloader.storage.holder import (
    BEAT_S,
    STALE_S,
    Holder,
    Probe,
    own_holder,
    process_started,
    slurm_job_is_over,
)

HERE = own_holder("n", "a run", environ={"SLURM_CLUSTER_NAME": "c1"})
ELSEWHERE = replace(HERE, host="other", boot_id="b2", nonce="m")
JOB = replace(ELSEWHERE, slurm_job="17")


def probe(started=None, over=None):
    return Probe(process_started=lambda pid: started, slurm_job_is_over=lambda job: over)


def test_what_is_written_is_read():
    assert Holder.from_bytes(HERE.to_bytes()) == HERE


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"nonce": "x"}', b"\xff"])
def test_broken_file_has_no_holder(content):
    assert Holder.from_bytes(content) is None


def test_people_read_who_where_and_since_when():
    holder = replace(HERE, host="node7", pid=42, since="2030-01-01 10:00:00 UTC", slurm_job="17")
    assert str(holder) == (
        "a run (host node7, process 42, Slurm job 17, since 2030-01-01 10:00:00 UTC)"
    )


def test_own_holder_says_what_others_need():
    environ = {
        "SLURM_JOB_ID": "17",
        "DOWNLOADER_RESTARTS": "2",
        "SLURM_CLUSTER_NAME": "c1",
        "DOWNLOADER_RUN": "abc",
    }
    me = own_holder("n", "wave 1", environ)
    assert (me.pid, me.slurm_job, me.slurm_restarts, me.run) == (os.getpid(), "17", 2, "abc")
    assert me.started == process_started(os.getpid())
    assert me.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.parametrize(
    ("holder", "me", "started", "dead"),
    [
        (HERE, HERE, HERE.started, False),
        (HERE, HERE, None, True),  # gone
        (HERE, HERE, "1", True),  # its pid is another's by now
        (HERE, HERE, "", False),  # it is there; the system does not tell since when
        (ELSEWHERE, HERE, None, False),  # another host: its pid says nothing here
        (replace(HERE, boot_id="b2"), HERE, None, False),  # another machine of the same name
        (replace(HERE, pid_space="p2"), HERE, None, False),  # another container
        (replace(HERE, boot_id=""), replace(HERE, boot_id=""), None, False),  # cannot be told
    ],
    ids=range(8),  # else they would hold when this process started, and differ between workers
)
def test_process_that_is_gone_from_the_same_boot_is_dead_at_once(holder, me, started, dead):
    assert probe(started).is_dead(holder, me, 0.0) is dead


@pytest.mark.parametrize(
    ("holder", "me", "over", "dead"),
    [
        (JOB, HERE, True, True),
        (JOB, HERE, False, False),
        (JOB, HERE, None, False),  # no Slurm here, or it does not answer
        (ELSEWHERE, HERE, True, False),  # the holder is no job
        (JOB, replace(HERE, slurm_cluster="c2"), True, False),  # job 17 of another cluster
        (JOB, replace(HERE, slurm_cluster=""), True, True),  # on a login node
        (JOB, replace(HERE, slurm_job="17", slurm_restarts=1), None, True),  # we are requeued
        (JOB, replace(HERE, slurm_job="17"), None, False),  # another node of our own job
        (replace(HERE, slurm_job="17"), HERE, True, False),  # it runs here, whatever Slurm says
    ],
)
def test_slurms_word_counts_once_some_heartbeats_failed_to_come(holder, me, over, dead):
    asked = probe(HERE.started, over)
    assert asked.is_dead(holder, me, 3 * BEAT_S) is dead
    assert not asked.is_dead(holder, me, BEAT_S)


@pytest.mark.parametrize("holder", [HERE, ELSEWHERE, JOB, None])
def test_silence_is_death_whatever_else_is_known(holder):
    asked = probe(HERE.started, over=False)
    assert not asked.is_dead(holder, HERE, STALE_S - 0.1)
    assert asked.is_dead(holder, HERE, STALE_S)


def test_slurm_is_asked_once_per_job():
    asked = []
    once = Probe(slurm_job_is_over=asked.append).asking_slurm_once()
    for _ in range(3):
        once.is_dead(JOB, HERE, 3 * BEAT_S)
    assert asked == ["17"]


def test_process_that_ended_but_is_not_buried_does_not_run():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process_started(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table
        assert process_started(process.pid) is None
    assert process_started(process.pid) is None


def test_hidden_process_is_there_all_the_same(monkeypatch):
    def hidden(*args, **kwargs):
        raise FileNotFoundError  # /proc mounted with hidepid, or none at all

    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    monkeypatch.setattr(Path, "read_text", hidden)
    assert process_started(os.getpid()) == ""
    assert process_started(gone.pid) is None


def test_stopped_process_is_there():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = process_started(process.pid)
        process.send_signal(signal.SIGSTOP)
        assert process_started(process.pid) == started
        process.kill()


def test_name_of_a_process_cannot_confuse_us(tmp_path):
    program = tmp_path / "a) R 1 2 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        ticks = process_started(process.pid)
        process.kill()
    assert ticks is not None
    assert abs(int(ticks) - int(process_started(os.getpid()))) < 100 * 3600 * 24


@pytest.mark.parametrize(
    ("script", "over"),
    [
        ("echo RUNNING", False),
        ("echo COMPLETING", False),
        ("echo SUSPENDED", False),
        ("true", True),  # no longer known
        ("echo PENDING", True),  # requeued: nothing of it runs
        ("echo TIMEOUT", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", True),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", None),
    ],
)
def test_squeue_is_understood(tmp_path, monkeypatch, script, over):
    squeue = tmp_path / "squeue"
    squeue.write_text(f'#!/bin/sh\n[ "$3" = 17 ] || exit 9\n{script}\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert slurm_job_is_over("17") is over


def test_without_slurm_nobody_knows(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_job_is_over("17") is None
