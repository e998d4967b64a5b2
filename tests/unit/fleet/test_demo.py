import os
import select
import signal
import subprocess
import sys
from collections import Counter
from csv import DictReader
from dataclasses import replace
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest

import run_demo
from distributed_downloader.configuration.config import load_settings
from distributed_downloader.fleet.demo import COLUMNS, DUPLICATES, RUBBISH, demo_csv, demo_plan
from distributed_downloader.fleet.judge import ACCESS
from distributed_downloader.fleet.plan import Trick
from distributed_downloader.fleet.replies import Request
from distributed_downloader.fleet.site import Site, specials_by_path

HOUSE = Path(run_demo.__file__).parents[1]
PLAN = demo_plan()
ROWS = list(DictReader(StringIO(demo_csv(PLAN))))


@pytest.fixture(scope="module")
def settings():
    return load_settings(HOUSE / "config" / "demo.yaml")


def test_config_knows_the_addresses_of_the_servers(settings):
    assert settings.hosts == {host.name: host.address for host in PLAN.hosts}


def test_every_server_is_on_loopback_at_an_address_of_its_own():
    addresses = [host.address for host in PLAN.hosts]
    assert all(address.startswith("127.") for address in addresses)
    assert len(set(addresses)) == len(addresses)


def test_config_reads_the_list_that_the_demo_writes(settings):
    assert Path(settings.path_to_input).parts[-2:] == (run_demo.DEMO.name, "urls.csv")


def test_rows_that_fail_in_one_wave_are_mended_in_the_next(settings):
    (mending,) = (host for host in PLAN.hosts if host.fails_first)
    assert mending.fails_first == settings.retries_per_row
    assert settings.retries_waves >= 2


def test_one_server_allows_less_than_it_is_asked_for(settings):
    strict = [host for host in PLAN.hosts if host.rate < settings.default_rate_limit]
    assert [host.name for host in strict] == ["strict.university.test"]


def test_there_are_several_batches_at_a_server(settings):
    assert sum(host.images > settings.batch_size for host in PLAN.hosts) >= 5


def test_list_has_every_image_and_duplicates_and_rubbish():
    urls = Counter(row["identifier"] for row in ROWS)
    assert len(ROWS) == sum(host.images for host in PLAN.hosts) + DUPLICATES + len(RUBBISH)
    assert sum(number > 1 for number in urls.values()) == DUPLICATES
    assert set(RUBBISH) <= urls.keys()
    assert tuple(ROWS[0]) == COLUMNS
    assert "uuid" not in COLUMNS


def test_list_is_the_same_every_time():
    assert demo_csv(demo_plan()) == demo_csv(PLAN)


def test_every_redirect_leads_to_an_image():
    sites = {host.name: Site(replace(host, rate=None), PLAN.port) for host in PLAN.hosts}
    followed = 0
    for host in PLAN.hosts:
        for path, special in specials_by_path(host).items():
            if special.trick is Trick.REDIRECT:
                location = sites[host.name].reply(Request("GET", path), 0.0).headers["Location"]
                target = urlsplit(location)
                site = sites[target.hostname or host.name]
                assert site.reply(Request("GET", target.path), 100.0).status == 200
                followed += 1
    assert followed >= 10


def test_list_that_is_up_to_date_is_not_touched(tmp_path):
    path = tmp_path / "demo" / "urls.csv"
    run_demo.write_list(path, "a\n")
    os.utime(path, (1, 1))
    run_demo.write_list(path, "a\n")
    assert path.stat().st_mtime == 1
    run_demo.write_list(path, "b\n")
    assert path.read_text() == "b\n"


def access_log(*rows: tuple[float, str, int]) -> pl.DataFrame:
    plain = dict.fromkeys(ACCESS, None)
    records = [{**plain, "monotonic": m, "group": group, "status": s} for m, group, s in rows]
    return pl.DataFrame(records, schema=ACCESS)


def test_verdict_counts_this_run_only():
    group = "strict.university.test"
    rows = [(5.0, group, 429), *((10.0 + step / 8, group, 200) for step in range(3))]
    said = run_demo.verdict(PLAN, access_log(*rows, (11.0, group, 429)), began=9.0)
    assert "4 requests, 1 refused; at most 3 in any second" in said
    assert "(strict.university.test, which allows 5/s and a burst of 2)" in said


def test_verdict_of_a_run_without_requests():
    assert "no request in this run, 1 in all" in run_demo.verdict(
        PLAN, access_log((5.0, "a", 200)), began=9.0
    )


CHILD = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print("ready", flush=True)
signal.sigwait([signal.SIGINT])
print("again" if signal.sigtimedwait([signal.SIGINT], 0.3) else "once", flush=True)
sys.exit(7)
"""
PARENT = "import sys, run_demo; sys.exit(run_demo.run([sys.executable, '-c', sys.argv[1]]))"


def parent_of(child: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, child],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HOUSE / "scripts")},
        start_new_session=True,
    )


def test_interrupt_is_passed_on_once_and_the_exit_code_handed_back():
    with parent_of(CHILD) as parent:
        parent.stdout.readline()
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does it
        assert parent.stdout.read() == "once\n"
    assert parent.returncode == 7


def test_child_is_asked_to_end_when_the_parent_is_killed():
    with parent_of("import os, signal; print(os.getpid(), flush=True); signal.pause()") as parent:
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.kill()
            assert select.select([child], [], [], 10.0)[0]
        finally:
            os.close(child)


def test_taken_port_is_one_sentence_and_exit_code_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_demo, "LIST", tmp_path / "urls.csv")
    monkeypatch.setattr(run_demo, "LOG", tmp_path / "access.jsonl")
    monkeypatch.setattr(run_demo, "run", lambda command: pytest.fail("Snakemake was started"))
    monkeypatch.setattr(run_demo, "demo_plan", small_plan)
    with run_demo.running_fleet(small_plan()) as fleet:
        (tmp_path / "urls.csv").write_text(demo_csv(demo_plan(fleet.port)))
        assert run_demo.main() == 1
    said = capsys.readouterr().err
    assert f"127.41.9.9:{fleet.port} (Address already in use)" in said
    assert "Or remove" in said


def test_another_demo_on_this_machine_is_no_obstacle_and_a_list_keeps_its_port(
    tmp_path, monkeypatch
):
    file = tmp_path / "urls.csv"
    with run_demo.running_fleet(small_plan()) as fleet:
        monkeypatch.setattr(run_demo, "demo_plan", lambda: small_plan(fleet.port))
        free = run_demo.port_of(file)
        assert free > fleet.port
        file.write_text(demo_csv(demo_plan(fleet.port)))
        assert run_demo.port_of(file) == fleet.port
    file.unlink()
    assert run_demo.port_of(file) == fleet.port


def small_plan(port: int = 0):
    small = replace(PLAN.hosts[0], address="127.41.9.9", images=0, specials=())
    return replace(PLAN, hosts=(small,), port=port)
