"""What becomes of every outcome: an image, an error, or another try."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from distributed_downloader.records import ErrorClass, Redirected
from distributed_downloader.waves.group_queue import GroupQueue
from distributed_downloader.waves.rank import Rank
from tests.unit.waves.rank_at_work import FREE, Gate, Work, ok, rows

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick")]


@pytest.fixture
def anyio_backend():
    return "asyncio"


def error_classes(work):
    return {uuid: failed.error_class for uuid, (failed, _) in work.store.errors.items()}


async def test_a_row_is_asked_as_often_as_it_may_be_in_a_wave_and_then_kept_as_failed(tmp_path):
    work = Work(tmp_path, lambda _: httpx.Response(503))
    tally = await work.run("http://a.org/1", "http://a.org/2")
    assert len(work.asked) == 6
    failed, attempt = work.store.errors["http://a.org/1"]
    assert (failed.error_code, failed.retryable, attempt.requests) == (503, True, 2)
    assert (tally.settled, tally.errors) == (2, 2)


@pytest.mark.parametrize(
    ("verdicts", "spared"), [([FREE] * 9, 1), ([FREE, None, FREE], 0), ([FREE, None, None], 0)]
)
async def test_refused_in_blocks_a_row_is_asked_no_more_often_and_its_wave_does_not_count(
    tmp_path, verdicts, spared
):
    work = Work(tmp_path, lambda _: httpx.Response(503), gate=Gate(verdicts=list(verdicts)))
    tally = await work.run("http://a.org/1")
    assert len(work.asked) == 3
    failed, _ = work.store.errors["http://a.org/1"]
    assert (failed.error_code, failed.retryable, failed.costs_a_try) == (503, True, False)
    assert (tally.settled, tally.spared) == (1, spared)


async def test_what_is_refused_while_the_rank_stops_is_left_as_it_was(tmp_path):
    def stopping(_request):
        work.rank.stop()
        return httpx.Response(503)

    work = Work(tmp_path, stopping, gate=Gate(verdicts=[FREE]), tries_per_row=1)
    tally = await work.run("http://a.org/1")
    assert (work.store.errors, tally.settled) == ({}, 0)


async def test_a_target_of_another_ranks_group_is_kept_for_the_next_wave(tmp_path):
    target = "http://b.org/1"
    gate = Gate(stops={target: Redirected(target)})
    moved = httpx.Response(302, headers={"Location": target})
    work = Work(tmp_path, moved, gate=gate)
    tally = await work.run("http://a.org/1")
    failed, _ = work.store.errors["http://a.org/1"]
    assert failed.error_class is ErrorClass.REDIRECT_ELSEWHERE
    assert (failed.final_url, failed.retryable) == (target, True)
    assert (tally.settled, tally.errors) == (1, 0)


async def test_a_row_with_a_target_is_asked_for_there(tmp_path):
    work = Work(tmp_path, ok)
    row = replace(next(rows("http://a.org/1")), target="http://cdn.org/1")
    work.queue_rows = [row]
    async with httpx.AsyncClient(transport=httpx.MockTransport(work.handle)) as client:
        rank = Rank(
            work.settings, work.effort, work.gate, client, work.store, lambda _row, _outcome: None
        )
        queue = GroupQueue(iter([row]), asyncio.get_running_loop().time)
        await rank.run({"a.org": queue})
    assert work.asked == ["http://cdn.org/1"]
    assert list(work.store.images) == ["http://a.org/1"]


async def test_a_dead_servers_rows_are_marked_and_not_asked(tmp_path):
    work = Work(tmp_path, ok, gate=Gate(down={"dead.org"}))
    await work.run("http://dead.org/1", "http://a.org/1", "http://dead.org/2")
    assert work.asked == ["http://a.org/1"]
    assert error_classes(work) == {
        "http://dead.org/1": ErrorClass.SERVER_DOWN,
        "http://dead.org/2": ErrorClass.SERVER_DOWN,
    }


async def test_an_ignored_servers_rows_are_left_as_they_were(tmp_path):
    work = Work(tmp_path, ok, gate=Gate(ignored={"stop.org"}))
    await work.run("http://stop.org/1", "http://a.org/1")
    assert work.asked == ["http://a.org/1"]
    assert work.store.errors == {}
    assert work.queue.is_finished


async def test_so_are_those_whose_server_is_listed_while_they_are_asked(tmp_path):
    gate = Gate()

    def listed(_request):
        gate.ignored.add("a.org")
        return httpx.Response(404)

    work = Work(tmp_path, listed, gate=gate)
    await work.run("http://a.org/1", "http://a.org/2")
    assert work.store.errors == {}
    assert work.queue.is_finished


async def test_what_is_no_image_is_kept_with_where_it_came_from(tmp_path):
    work = Work(tmp_path, httpx.Response(200, content=b"not an image at all"))
    await work.run("http://a.org/1")
    failed, _ = work.store.errors["http://a.org/1"]
    assert (failed.error_code, failed.retryable) == (-2, False)
    assert failed.final_url == "http://a.org/1"


async def test_a_sample_that_fails_for_now_leaves_its_row_as_it_was(tmp_path):
    work = Work(tmp_path, httpx.Response(503), keeps_retryable=False)
    tally = await work.run("http://a.org/1")
    assert work.store.errors == {}
    assert [outcome.error_code for _, outcome in work.outcomes] == [503]
    assert tally.settled == 1
