"""How runs end: what is given up, what rests, what is broken, and the exit code of each."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from distributed_downloader.configuration.effective import effective_path
from distributed_downloader.durable import read_json
from distributed_downloader.fleet.plan import HostPlan, Special, Trick
from distributed_downloader.running.begin import settings_for
from tests.workflow.drill import wait_for
from tests.workflow.stages import SCRIPTS, Stages

PER_ROW, WAVES = 2, 2


def errors_in(said: str) -> list[str]:
    """The sentences for a person."""
    return [line for line in said.splitlines() if line.startswith("error: ")]


def left_of(workflow) -> dict:
    return json.loads(workflow.paths.left.read_text())


def test_rows_that_always_fail_are_given_up_after_so_many_tries_and_waves(new_drill):
    faulty = Special(trick=Trick.SERVER_ERROR, share=0.4)
    host = HostPlan(
        name="a.one.test", address="127.0.35.1", images=10, photos="tiny", specials=(faulty,)
    )
    resting = HostPlan(
        name="b.two.test",
        address="127.0.35.2",
        images=4,
        photos="tiny",
        recovers_after_requests=1,
        failure_status=429,
        retry_after_s=2,
    )
    drill = new_drill(
        host,
        resting,
        downloader_parameters={"default_rate_limit": 10, "num_downloads": 1},
        politeness={"backoff": {"first_s": 0.3, "max_s": 5}},
        retries={"per_row": PER_ROW, "waves": WAVES},
    )
    said = drill.workflow.finish()
    assert drill.workflow.states() == {"failed_retryable": 4, "ok": 10}
    assert "it goes on with the 4 rows left" in said

    drill.workflow.config["downloader_parameters"]["num_downloads"] = 0
    said = drill.workflow.finish()
    assert drill.workflow.states() == {"failed_final": 4, "ok": 10}
    assert "4  the server has a fault (5xx), at a.one.test" in said
    asked = drill.images().filter(host="a.one.test").group_by("path").len()
    assert sorted(asked["len"]) == [1] * 6 + [PER_ROW * WAVES] * 4
    b = drill.images().filter(host="b.two.test")["monotonic"]
    assert b[1] - b[0] >= 2 - 0.05  # Retry-After, waited for by this same run


def test_what_verify_finds_is_said_once(new_drill):
    drill = new_drill(HostPlan(name="a.one.test", address="127.0.35.3", images=4, photos="tiny"))
    drill.workflow.finish()
    (table,) = drill.workflow.paths.urls.glob("*/*/urls.parquet")
    table.write_bytes(table.read_bytes()[::-1])
    done = drill.workflow.run()
    assert done.returncode == 1
    assert len(errors_in(done.stdout)) == done.stdout.count("has a damaged urls.parquet") == 1
    assert "Traceback" not in done.stdout
    assert "Images" not in done.stdout  # what was counted before may not be so any more


def test_rows_that_are_refused_in_each_others_blocks_are_asked_no_more_often(new_drill):
    host = HostPlan(
        name="a.one.test",
        address="127.0.41.1",
        images=2,
        photos="tiny",
        fails_first=99,
        latency_s=0.1,  # both are under way when the first is refused
    )
    drill = new_drill(
        host,
        rate=50,
        politeness={"min_rate": 20, "backoff": {"first_s": 0.2, "factor": 1}},
        retries={"per_row": PER_ROW, "waves": 1},
    )
    assert Stages().play(drill.workflow.config, "waves", "verify") == 0

    assert drill.workflow.states() == {"failed_final": 2}
    assert set(drill.workflow.errors()["error_code"]) == {503}
    waves = sorted(drill.paths.schedules.glob("[0-9]*/progress.json"))
    asked = drill.images()
    for wave in map(read_json, waves):
        mine = asked.filter(pl.col("time").is_between(wave["started"], wave["ended"]))
        assert max(mine.group_by("path").len()["len"], default=0) <= PER_ROW
    assert asked.group_by("path").len()["len"].min() >= PER_ROW  # none was lost


def resting(name: str, number: int, retry_after_s: float, *, as_date: bool) -> HostPlan:
    """Refuses once, and says when to come back."""
    return HostPlan(
        name=f"images.{name}.test",
        address=f"127.0.43.{number}",
        images=2,
        photos="tiny",
        recovers_after_requests=1,
        retry_after_s=retry_after_s,
        retry_after_as_date=as_date,
    )


def test_what_servers_say_wrongly_is_their_rows_own_and_stops_nothing(new_drill):
    garbage = "\x00\x01<<<>>>\r\rDisallow\nUser-agent\n: :\nCrawl-delay: never\n" * 50_000  # 2 MB
    ftp = Special(trick=Trick.REDIRECT, share=0.5, to="ftp://images.loops.test/{name}")
    loop = Special(trick=Trick.LOOP, share=0.5)
    drill = new_drill(
        HostPlan(name="images.garbage.test", address="127.0.43.1", images=2, robots=garbage),
        HostPlan(name="images.loops.test", address="127.0.43.2", images=8, specials=(ftp, loop)),
        resting("eleven-days", 3, 999_999, as_date=False),
        resting("yesterday", 4, -86_400, as_date=True),
        downloader_parameters={"default_rate_limit": 10, "workers_per_node": 1},
        politeness={"backoff": {"first_s": 0.5, "max_s": 1}},
        retries={"per_row": 2, "waves": 1},
    )
    assert Stages().play(drill.workflow.config, "waves", "verify") == 0

    assert drill.workflow.states() == {"failed_final": 8, "ok": 6}
    errors = drill.workflow.errors().group_by("error_class").len().sort("error_class")
    assert dict(errors.iter_rows()) == {"redirect_invalid": 4, "redirect_loop": 4}


def test_blocked_longer_than_a_run_waits_is_an_end_that_says_until_when(new_drill):
    rest_s = 12
    host = HostPlan(
        name="a.one.test",
        address="127.0.36.1",
        images=6,
        photos="tiny",
        recovers_after_requests=1,
        failure_status=429,
        retry_after_s=rest_s,
    )
    drill = new_drill(host, politeness={"wait_s": 1, "backoff": {"first_s": 0.5, "max_s": 60}})
    said = drill.workflow.finish()
    assert drill.workflow.states() == {"pending": 6}
    assert len(drill.images()) == 1
    refused = drill.images()["time"][0]
    free_at = left_of(drill.workflow)["free_at"]
    assert free_at - refused >= rest_s - 0.05
    until = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(free_at))
    assert f"6  one.test, until {until}" in said
    assert f"after {until}, run the same command again" in said

    wait_for("the end of the block", lambda: time.time() >= free_at)
    drill.workflow.finish()
    assert drill.workflow.states() == {"ok": 6}
    assert drill.images()["time"][1] >= free_at - 0.05


@pytest.mark.parametrize(("suppress", "code"), [(False, 1), (True, 0)])
def test_a_wave_that_changed_nothing_is_an_error_unless_suppressed(new_drill, suppress, code):
    host = HostPlan(name="a.one.test", address="127.0.37.1", images=3, photos="tiny")
    drill = new_drill(
        host, downloader_parameters={"workers_per_node": 1}, suppress_unchanged_error=suppress
    )
    stages, config = Stages(), drill.workflow.config
    assert stages.play(config, "schedule") == 0
    change_schedule(drill.paths.wave(0), group=pl.lit("nobody.test"))

    assert stages.play(config, "download") == code

    said = (drill.paths.root / "said.txt").read_text()
    assert (
        errors_in(said)
        == [
            f"error: Wave 0 changed nothing: 3 rows are left, and no server rests. See the logs in "
            f"{drill.paths.logs}, or set suppress_unchanged_error: true."
        ][: not suppress]
    )
    drill.workflow.finish()
    drill.assert_whole()


def change_schedule(folder: Path, **columns: pl.Expr) -> None:
    table = pl.read_parquet(folder / "schedule.parquet")
    table.with_columns(**columns).write_parquet(folder / "schedule.parquet")


def test_a_rank_that_raises_ends_the_others_and_what_they_stored_stays(new_drill):
    a, b = (
        HostPlan(name=name, address=f"127.0.38.{number}", images=30, photos="tiny")
        for number, name in enumerate(("a.one.test", "b.two.test"), 1)
    )
    drill = new_drill(a, b, rate=5)
    assert Stages().play(drill.workflow.config, "schedule") == 0
    nowhere = pl.when(pl.col("rank") == 1).then(pl.lit("nowhere.test")).otherwise("server_name")
    change_schedule(drill.paths.wave(0), server_name=nowhere)

    done = run_ranks(drill, 2)

    assert done.returncode not in (0, None)
    lost = drill.paths.urls / "server_name=nowhere.test"
    assert errors_in(done.stderr)[0].startswith(f"error: {lost}/partition_id=")
    assert "urls.parquet is missing. " in errors_in(done.stderr)[0]
    assert "nowhere.test" in (drill.paths.logs / "rank-1.log").read_text()
    assert len(drill.images()) < 30, "the other rank went on"
    assert not (drill.paths.wave(0) / "progress.json").exists()
    assert Stages().play(drill.workflow.config, "waves", "verify") == 0
    drill.assert_stored()


def run_ranks(drill, ranks: int) -> "subprocess.CompletedProcess[str]":
    """The wave's job alone, as its rule starts it."""
    settings = settings_for(drill.workflow.config)
    words = [
        *[str(Path(sys.executable).parent / "mpiexec"), "-n", str(ranks)],
        *[sys.executable, "-m", "mpi4py", str(SCRIPTS / "download_images.py")],
        *["--config", str(effective_path(settings.raw, settings.paths.configs))],
        *["--log", str(settings.paths.logs / "rank-0.log"), "--wave", "0", "--ranks", str(ranks)],
    ]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """An output folder that is a file system of 4 MB."""
    folder = tmp_path / "out"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def mount(*words: str) -> None:
    """Skip where root itself may not, as in most containers, in the words of `mount`."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@pytest.fixture
def quota_disk(tmp_path) -> Iterator[Path]:
    """An output folder with a quota of 4 MB, on a file system that has room."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk with a quota")
    tools = shutil.which("mkfs.btrfs", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if tools is None:
        pytest.skip("no btrfs-progs here: ext4 of some kernels has no quota")
    image, root = tmp_path / "image", tmp_path / "disk"
    root.mkdir()
    image.touch()
    os.truncate(image, 200_000_000)
    subprocess.run([tools, "-q", str(image)], check=True)
    mount("-o", "loop", str(image), str(root))
    try:
        subprocess.run(["btrfs", "-q", "subvolume", "create", str(root / "out")], check=True)
        subprocess.run(["btrfs", "quota", "enable", str(root)], check=True)
        limit(root / "out", "4M")
        (tmp_path / "out").symlink_to(root / "out")
        yield tmp_path / "out"
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


def limit(folder: Path, most: str) -> None:
    subprocess.run(["btrfs", "qgroup", "limit", most, str(folder)], check=True)


def full_disk(new_drill, folder: Path, reason: str):
    """A run that does not fit, and says so in one sentence; its drill."""
    host = HostPlan(name="a.one.test", address="127.0.40.1", images=80, photos="real")
    drill = new_drill(
        host,
        rate=40,
        downloader_parameters={"default_rate_limit": 40, "image_size": 0, "batch_size": 30},
    )
    full = drill.workflow.run()
    assert full.returncode == 1
    sentences = errors_in(full.stdout)
    assert 1 <= len(sentences) <= 3, full.stdout  # the wave's; perhaps verify's and the report's
    for sentence in sentences:
        assert sentence.startswith(f"error: Cannot write {folder}"), full.stdout
        assert f"{reason}. Make room" in sentence
    assert "Traceback" not in full.stdout
    return drill


def test_a_quota_is_one_sentence_and_with_a_larger_one_the_same_command_goes_on(
    new_drill, quota_disk
):
    drill = full_disk(new_drill, quota_disk, "Disk quota exceeded")
    limit(quota_disk.resolve(), "none")
    drill.workflow.finish()
    drill.assert_stored()


def test_a_full_disk_is_one_sentence_and_after_making_room_the_same_command_goes_on(
    new_drill, small_disk
):
    drill = full_disk(new_drill, small_disk, "No space left on device")
    remount(small_disk, "ro")
    refused = drill.workflow.run()
    assert refused.returncode == 1
    assert f"error: Cannot write the lock {small_disk}/run.lock: Read-only" in refused.stdout
    assert "Read-only file system. Make room or mend" in refused.stdout
    assert "Traceback" not in refused.stdout

    remount(small_disk, "rw,size=200m")
    drill.workflow.finish()
    drill.assert_stored()
