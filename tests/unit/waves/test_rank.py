"""One rank at work: what becomes of every outcome, and how it ends, come what may."""

import asyncio
import io
import math
from collections import defaultdict
from dataclasses import dataclass, field, replace

import httpx
import pytest
from PIL import Image

from distributed_downloader.codec.images import encode
from distributed_downloader.errors import StorageError
from distributed_downloader.paths import Batch
from distributed_downloader.records import ErrorClass, Failed, Redirected, Row, Try
from distributed_downloader.waves import arrivals, tries
from distributed_downloader.waves import rank as room
from distributed_downloader.waves.group_queue import GroupQueue
from distributed_downloader.waves.rank import Rank
from distributed_downloader.waves.tries import Effort, next_try_s, weighed
from tests.unit.conftest import make_settings

pytestmark = pytest.mark.anyio

BATCH = Batch("a.org", 0)
BROKEN = Failed(ErrorClass.SERVER_ERROR, 503, "HTTP 503", retryable=True)
GONE = Failed(ErrorClass.NOT_FOUND, 404, "HTTP 404", retryable=False)
FREE = replace(BROKEN, costs_a_try=False)
OVER = replace(BROKEN, is_over_for_now=True)
DOWN = Failed(ErrorClass.SERVER_DOWN, -1, "not asked", retryable=True, is_over_for_now=True)


@pytest.fixture
def anyio_backend():
    return "asyncio"


class InThisThread:
    """The codec without its processes, which take their time to start."""

    def __init__(self, images, _processes):
        self._images = images

    async def encode(self, body, **promised):
        return encode(body, self._images, **promised)

    def close(self):
        pass


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(arrivals, "Codec", InThisThread)
    monkeypatch.setattr(room, "LOOK_S", 0.002)
    monkeypatch.setattr(tries, "RETRY_FIRST_S", 0.001)
    monkeypatch.setattr(room, "GRACE_S", 0.05)


def photo():
    image = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(image, "JPEG")
    return image.getvalue()


@dataclass
class Pace:
    connections: int = 2
    blocked_s: float = 0.0

    def blocked_for_s(self):
        return self.blocked_s


@dataclass
class Gate:
    """Lets everything pass at once; a group that is blocked waits until it is closed."""

    paces: dict = field(default_factory=lambda: defaultdict(Pace))
    ignored: set = field(default_factory=set)
    down: set = field(default_factory=set)
    stops: dict = field(default_factory=dict)  # URL -> what comes of it
    verdicts: list = field(default_factory=list)
    admitted: list = field(default_factory=list)
    is_closed: bool = False
    waiting: set = field(default_factory=set)

    def close(self):
        self.is_closed = True
        for task in self.waiting:
            task.cancel()

    def is_ignored(self, server):
        return server in self.ignored

    def refusal(self, url):
        return DOWN if url.split("/")[2] in self.down else None

    async def admit(self, url):
        self.waiting.add(asyncio.current_task())
        while self.paces["a.org"].blocked_s:
            await asyncio.sleep(0.001)
        self.waiting.discard(asyncio.current_task())
        self.admitted.append(url)
        return self.stops.get(url)

    async def leave(self, _url):
        return None

    async def is_cut_off(self, _began):
        return False

    def heard(self, _url, _answer):
        return self.verdicts.pop(0) if self.verdicts else None


@dataclass
class Store:
    """Keeps what it is given; `flush` and `keep_flushing` may fail."""

    images: dict = field(default_factory=dict)
    errors: dict = field(default_factory=dict)
    flushes: int = 0
    fails_at: float | None = None  # images, then keep_flushing raises
    is_closed: bool = False

    def add_image(self, attempt, _fetched, _encoded):
        self.images[attempt.row.uuid] = attempt

    def add_error(self, attempt, failed):
        self.errors[attempt.row.uuid] = (failed, attempt)

    async def has_room(self):
        pass

    async def keep_flushing(self):
        while not self.is_closed:
            await asyncio.sleep(0.001)
            if self.fails_at is not None and len(self.images) >= self.fails_at:
                raise StorageError("the disk is full")

    def close(self):
        self.is_closed = True

    async def flush(self):
        self.flushes += 1


def rows(*urls):
    for url in urls:
        yield Row(url, None, url, url.split("/")[2], BATCH)


class Work:
    """A rank, what it works with, and what came of it."""

    def __init__(self, tmp_path, answer, *, gate=None, store=None, **effort):
        self.settings = make_settings(tmp_path)
        self.asked = []
        self.outcomes = []
        self.gate, self.store = gate or Gate(), store or Store()
        self.effort = Effort(**{"tries_per_row": 3, "patience_s": 30.0, **effort})
        self._answer = answer

    async def handle(self, request):
        self.asked.append(str(request.url))
        answer = self._answer(request) if callable(self._answer) else self._answer
        return await answer if asyncio.iscoroutine(answer) else answer

    async def run(self, *urls, started=lambda _rank: None):
        async with httpx.AsyncClient(transport=httpx.MockTransport(self.handle)) as client:
            self.rank = Rank(
                self.settings,
                self.effort,
                self.gate,
                client,
                self.store,
                lambda row, outcome: self.outcomes.append((row.uuid, outcome)),
            )
            self.queue = GroupQueue(rows(*urls), asyncio.get_running_loop().time)
            started(self.rank)
            async with asyncio.timeout(20):
                await self.rank.run({"a.org": self.queue})
        return self.rank.tally


def ok(_request):
    return httpx.Response(200, content=photo())


def error_classes(work):
    return {uuid: failed.error_class for uuid, (failed, _) in work.store.errors.items()}


# ---------------------------------------------------------------- deciding


@pytest.mark.parametrize(
    ("number", "failed", "chance", "delay_s"),
    [
        (1, BROKEN, 0.5, 1.0),
        (2, BROKEN, 0.5, 2.0),
        (2, BROKEN, 0.0, 1.0),
        (9, BROKEN, 0.5, 60.0),
        (10, BROKEN, 0.5, None),  # the last of ten tries
        (1, GONE, 0.5, None),
        (1, OVER, 0.5, None),
        (9, FREE, 0.5, 0.0),  # the group's pace makes it wait
        (10, FREE, 0.5, None),  # a request is a request
        (1, replace(FREE, error_code=-2), 0.5, 1.0),  # out of sockets: nobody's pace
    ],
)
def test_when_a_row_is_tried_again(monkeypatch, number, failed, chance, delay_s):
    monkeypatch.setattr(tries, "RETRY_FIRST_S", 1.0)
    attempt = Try(next(rows("http://a.org/1")), number=number, requests=number - 1)
    assert next_try_s(attempt, failed, Effort(10, 0.0), chance) == delay_s


@pytest.mark.parametrize(
    ("number", "failed", "counts"),
    [
        (3, BROKEN, True),
        (2, BROKEN, False),  # one of the three was refused in its group's block
        (3, FREE, False),
        (1, OVER, True),  # its server is down: the others are not tried
        (1, replace(OVER, costs_a_try=False), False),
    ],
)
def test_a_wave_counts_if_each_of_its_tries_did(number, failed, counts):
    attempt = Try(next(rows("http://a.org/1")), number=number, requests=2)
    assert weighed(attempt, failed, Effort(3, 0.0)).costs_a_try == counts


def test_a_sample_that_failed_for_now_is_not_tried_again():
    attempt = Try(next(rows("http://a.org/1")))
    assert next_try_s(attempt, BROKEN, Effort(3, 0.0, keeps_retryable=False), 0.5) is None


# ---------------------------------------------------------------- outcomes


async def test_every_row_gets_its_outcome_once(tmp_path):
    urls = [f"http://a.org/{number}" for number in range(40)]
    work = Work(tmp_path, ok)
    tally = await work.run(*urls)
    assert sorted(work.asked) == sorted(work.store.images) == sorted(urls)
    assert (tally.settled, tally.images, tally.errors) == (40, 40, 0)
    assert work.queue.is_finished
    assert work.store.flushes == 1


async def test_no_rows_and_no_groups_are_an_end(tmp_path):
    work = Work(tmp_path, ok)
    assert (await work.run()).settled == 0
    async with asyncio.timeout(20):
        await Rank(
            work.settings, work.effort, Gate(), None, Store(), lambda _row, _outcome: None
        ).run({})


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


# ---------------------------------------------------------------- ends


async def test_a_store_that_fails_ends_the_rank_and_what_it_holds_is_flushed(tmp_path):
    store = Store(fails_at=3)

    async def endless(request):
        await asyncio.sleep(0.001)
        return ok(request)

    work = Work(tmp_path, endless, store=store)
    with pytest.raises(StorageError, match="the disk is full"):
        await work.run(*(f"http://a.org/{number}" for number in range(10_000)))
    assert store.flushes == 1
    assert len(store.images) < 10_000


async def test_a_fault_in_the_codec_is_not_lost(tmp_path, monkeypatch):
    async def break_down(_self, _body, **_promised):
        raise MemoryError("no memory")

    monkeypatch.setattr(InThisThread, "encode", break_down)
    work = Work(tmp_path, ok)
    with pytest.raises(MemoryError):
        await work.run(*(f"http://a.org/{number}" for number in range(20)))
    assert work.store.flushes == 1


async def test_with_only_blocked_groups_left_it_waits_says_so_and_is_told_to_end(tmp_path):
    gate = Gate()
    gate.paces["a.org"].blocked_s = 31.0
    work, rests_s = Work(tmp_path, ok, gate=gate), []

    def end_when_it_says_so(rank):
        def look():
            rests_s.append(rank.tally.rests_s)
            (rank.stop if rank.tally.rests_s else lambda: loop.call_later(0.001, look))()

        loop = asyncio.get_running_loop()
        loop.call_soon(look)

    tally = await work.run("http://a.org/1", started=end_when_it_says_so)
    assert rests_s[-1] == 31.0
    assert (tally.settled, tally.blocked, tally.rests_s) == (0, ("a.org",), math.inf)
    assert gate.is_closed
    assert work.asked == []


async def test_a_block_that_ends_is_waited_for(tmp_path):
    gate = Gate()
    gate.paces["a.org"].blocked_s = 29.0
    work = Work(tmp_path, ok, gate=gate)

    def unblock_later(rank):
        def look():
            if rank.tally.blocked:
                gate.paces["a.org"].blocked_s = 0.0
            else:
                loop.call_later(0.001, look)

        loop = asyncio.get_running_loop()
        loop.call_soon(look)

    assert (await work.run("http://a.org/1", started=unblock_later)).images == 1


async def test_told_to_stop_it_stores_what_is_under_way_and_asks_for_nothing_more(tmp_path):
    rank = None

    async def slow(request):
        rank.stop(10.0)
        await asyncio.sleep(0.02)
        return ok(request)

    def started(one):
        nonlocal rank
        rank = one

    gate = Gate()
    gate.paces["a.org"].connections = 1
    work = Work(tmp_path, slow, gate=gate)
    tally = await work.run(*(f"http://a.org/{n}" for n in range(5)), started=started)
    assert work.asked == ["http://a.org/0"]
    assert (list(work.store.images), tally.settled) == (["http://a.org/0"], 1)
    assert work.store.flushes == 1


async def test_what_takes_too_long_to_end_is_given_up(tmp_path):
    async def hanging(_request):
        work.rank.stop()
        await asyncio.Event().wait()

    work = Work(tmp_path, hanging)
    tally = await work.run("http://a.org/1")
    assert (tally.settled, work.store.errors, work.store.flushes) == (0, {}, 1)


async def test_a_reader_that_fails_ends_the_rank(tmp_path):
    work = Work(tmp_path, ok)

    def broken():
        yield from rows("http://a.org/1")
        raise OSError("the disk is gone")

    async with httpx.AsyncClient(transport=httpx.MockTransport(work.handle)) as client:
        rank = Rank(
            work.settings, work.effort, work.gate, client, work.store, lambda _row, _outcome: None
        )
        queue = GroupQueue(broken(), asyncio.get_running_loop().time)
        with pytest.raises(OSError, match="the disk is gone"):
            async with asyncio.timeout(20):
                await rank.run({"a.org": queue})
    assert work.store.flushes == 1
