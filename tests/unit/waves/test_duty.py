"""A rank's duty: what it learned goes to the disk while it works, what the user writes comes in."""

import asyncio
import threading

import httpx
import pytest

from distributed_downloader.courtesy.ownership import Ownership
from distributed_downloader.errors import StorageError
from distributed_downloader.paths import Batch
from distributed_downloader.storage import store
from distributed_downloader.waves import duty as room
from distributed_downloader.waves import rank
from distributed_downloader.waves.duty import Duty, GroupOrders, Worker
from distributed_downloader.waves.memories import (
    load_memories,
    memory_file,
    read_audits,
    save_memories,
)
from distributed_downloader.waves.tries import Effort
from distributed_downloader.waves.worklist import read_rows, rows_left
from tests.unit.batches import partition
from tests.unit.conftest import make_settings
from tests.unit.waves.test_wave import ok, urls

pytestmark = pytest.mark.anyio

A = Batch("a.org", 0)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(rank, "LOOK_S", 0.005)
    monkeypatch.setattr(rank, "GRACE_S", 0.05)
    monkeypatch.setattr(store, "TICK_S", 0.005)
    monkeypatch.setattr(room, "KEEP_UP_S", 0.005)


async def work(tmp_path, answer, *, rows=5, rate=1000.0, servers=None, edited_limits=None):
    """One group's duty over MockTransport; (settings, result, what was asked)."""
    settings = make_settings(
        tmp_path,
        downloader_parameters={"default_rate_limit": 1000},
        politeness={"robots": "ignore", "servers": servers or {}},
    )
    partition(settings.paths, {A: urls("a.org", rows)})
    left = rows_left(A, settings)
    orders = GroupOrders("a.org", rate, ["a.org"], read_rows(left, "a.org", settings.paths))
    duty = Duty(
        wave=0,
        ownership=Ownership(0, 1, {"a.org": 0}),
        groups=[orders],
        total_rows=rows,
        effort=Effort(3, 30.0),
        memory_file=memory_file(settings.paths.wave(0), 0),
        allowed=lambda: None,
        edited_limits=edited_limits or {},
    )
    asked = []

    def handle(request):
        asked.append(str(request.url))
        return answer(settings, asked)

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as client:
        worker = Worker(settings, duty, client)
        async with asyncio.timeout(20):
            return settings, await worker.run(), asked


async def test_what_it_learned_is_on_the_disk_at_its_end(tmp_path):
    settings, result, asked = await work(tmp_path, lambda *_: ok(None))
    assert (result.changed, result.failure, len(asked)) == (5, None, 5)
    assert load_memories(settings)["a.org"].last_request > 0
    assert [row["requests"] for row in result.learned] == [5]


async def test_what_it_learned_while_the_disk_took_its_time_is_written_too(tmp_path, monkeypatch):
    ended, run = threading.Event(), rank.Rank.run

    async def run_and_tell(*given):
        await run(*given)
        ended.set()

    def slow(*given):
        assert ended.wait(20)
        save_memories(*given)

    monkeypatch.setattr(room, "KEEP_UP_S", 0)  # the first is written as soon as it begins
    monkeypatch.setattr(room, "save_memories", slow)
    monkeypatch.setattr(rank.Rank, "run", run_and_tell)
    settings, _, _ = await work(tmp_path, lambda *_: ok(None))
    assert read_audits(settings.paths.wave(0))["requests"].to_list() == [5]


async def test_a_disk_that_does_not_take_it_ends_the_rank_with_its_sentence(tmp_path, monkeypatch):
    def full(*_args):
        raise StorageError("the disk is full")

    monkeypatch.setattr(room, "save_memories", full)
    _, result, asked = await work(tmp_path, lambda *_: ok(None), rows=5000, rate=50.0)
    assert result.failure == "the disk is full"
    assert len(asked) < 5000


async def test_a_server_that_is_listed_while_it_is_asked_is_asked_no_more(tmp_path):
    def list_it(settings, asked):
        if len(asked) == 3:
            settings.paths.ignored_table.write_text("server_name\na.org\n")
        return ok(None)

    _, result, asked = await work(tmp_path, list_it, rows=2000, rate=100.0)
    assert 3 <= len(asked) < 2000
    assert result.failure is None
    assert result.changed == len(asked)


async def test_a_table_that_is_broken_for_a_moment_changes_nothing(tmp_path):
    def break_it(settings, _asked):
        settings.paths.ignored_table.write_bytes(b"\xff\xfe\x00")
        return ok(None)

    _, result, asked = await work(tmp_path, break_it, rows=20, rate=100.0)
    assert (len(asked), result.failure) == (20, None)


async def test_the_plans_rate_and_the_budget_both_hold(tmp_path):
    _, result, _ = await work(tmp_path, lambda *_: ok(None), rate=200.0)
    assert result.learned[0]["limit"] == 200
    servers = {"a.org": {"rate_limit": 100}}
    _, result, _ = await work(tmp_path / "2", lambda *_: ok(None), rate=200.0, servers=servers)
    assert result.learned[0]["limit"] == 100


async def test_a_persons_limit_holds_where_only_a_redirect_leads(tmp_path):
    def to_the_cdn(_settings, asked):
        if "cdn.net" in asked[-1]:
            return ok(None)
        return httpx.Response(302, headers={"Location": "http://cdn.net/1"})

    _, result, _ = await work(tmp_path, to_the_cdn, rows=1, edited_limits={"cdn.net": 7.0})
    assert {row["group"]: row["limit"] for row in result.learned} == {"a.org": 1000, "cdn.net": 7}
