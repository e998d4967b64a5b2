"""A wave of one rank from schedule to left.json, and what it says when it fails."""

import io
import os
import signal

import httpx
import polars as pl
import pytest
from PIL import Image

from distributed_downloader import mpi
from distributed_downloader.durable import read_json, write_json
from distributed_downloader.errors import DownloaderError, StorageError
from distributed_downloader.paths import Batch
from distributed_downloader.storage import store
from distributed_downloader.storage.batch_files import read_states
from distributed_downloader.storage.lock import Lock, request_stop
from distributed_downloader.waves import rank, settling, tries, wave
from distributed_downloader.waves.deadline import Deadline
from distributed_downloader.waves.due import PROGRESS, STARTED
from distributed_downloader.waves.left import LEARNED_NAME
from distributed_downloader.waves.planning import plan_next_wave, write_plan
from distributed_downloader.waves.wave import Bounds, run_wave, unchanged
from tests.unit.batches import partition, profile
from tests.unit.conftest import make_settings, merged

pytestmark = pytest.mark.anyio

A, SMALL = Batch("a.org", 0), Batch("_small-12ab", 0)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(rank, "LOOK_S", 0.005)
    monkeypatch.setattr(rank, "GRACE_S", 0.05)
    monkeypatch.setattr(tries, "RETRY_FIRST_S", 0.001)
    monkeypatch.setattr(store, "TICK_S", 0.005)
    monkeypatch.setattr(wave, "EXCHANGE_S", 0.005)


def photo():
    image = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(image, "JPEG")
    return image.getvalue()


def ok(_request):
    return httpx.Response(200, content=photo())


class Place:
    """An output folder, the servers, and the waves over them."""

    def __init__(self, tmp_path, monkeypatch, batches, **sections):
        own = {
            "downloader_parameters": {"default_rate_limit": 1000, "workers_per_node": 1},
            "politeness": {"robots": "ignore"},
        }
        self.settings = make_settings(tmp_path, **merged(own, sections))
        self.paths = self.settings.paths
        self.answer = ok
        self.asked = []
        partition(self.paths, batches)
        profile(self.paths)
        monkeypatch.setattr(wave, "client_of", self.client)
        monkeypatch.setattr(wave, "check_way_out", self.reach)

    async def reach(self, *_: object) -> None:
        """These servers need no network."""

    def client(self, _settings):
        return httpx.AsyncClient(transport=httpx.MockTransport(self.handle))

    def handle(self, request):
        self.asked.append(str(request.url))
        return self.answer(request)

    async def run(self, number=0, deadline=None):
        write_plan(self.settings, number, plan_next_wave(self.settings))
        self.lock = Lock.acquire(self.paths.writer_lock, role=f"wave {number}")
        try:
            bounds = Bounds(self.lock, deadline or Deadline())
            await run_wave(self.settings, number, mpi.Solo(), bounds)
        finally:
            self.lock.release()

    def left(self):
        return read_json(self.paths.left)

    def progress(self, number=0):
        return read_json(self.paths.wave(number) / PROGRESS)

    def states(self, batch):
        states = read_states(batch, self.paths, self.settings.retries_waves)
        return dict(states.select("uuid", "state").iter_rows())


def urls(server, count):
    return [f"http://{server}/{number}" for number in range(count)]


async def test_a_wave_that_nobody_watches_any_more_ends_with_what_was_wrong(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(wave, "write_progress", broken)
    place = Place(tmp_path, monkeypatch, {A: urls("a.org", 2000)})
    with pytest.raises(RuntimeError, match="a fault"):
        await place.run()
    assert len(place.asked) < 2000


async def test_a_wave_stores_counts_and_says_what_it_did(tmp_path, monkeypatch):
    mixed = ["http://one.org/1", "http://two.org/1", "http://two.org/2"]
    place = Place(tmp_path, monkeypatch, {A: urls("a.org", 3), SMALL: mixed})
    await place.run()
    assert sorted(place.asked) == sorted([*urls("a.org", 3), *mixed])
    assert set(place.states(A).values()) == set(place.states(SMALL).values()) == {"ok"}
    assert (place.left()["left"], place.progress()["changed"]) == (0, 6)
    learned = pl.read_parquet(place.paths.wave(0) / LEARNED_NAME)
    assert dict(learned.select("group", "requests").iter_rows()) == {
        "a.org": 3,
        "one.org": 1,
        "two.org": 2,
    }


async def test_a_wave_with_nothing_to_do_ends_well(tmp_path, monkeypatch):
    place = Place(tmp_path, monkeypatch, {A: urls("a.org", 1)})
    await place.run(0)
    await place.run(1)
    assert len(place.asked) == 1
    assert (place.progress(1)["changed"], place.progress(1)["left"]) == (0, 0)


async def test_a_redirect_to_a_group_of_nobody_is_followed_by_its_one_owner(tmp_path, monkeypatch):
    place = Place(tmp_path, monkeypatch, {A: urls("a.org", 1)})

    def moved(request):
        if request.url.host == "cdn.net":
            return ok(request)
        return httpx.Response(302, headers={"Location": "http://cdn.net/x"})

    place.answer = moved
    await place.run()
    assert place.asked == ["http://a.org/0", "http://cdn.net/x"]
    assert place.states(A) == {"http://a.org/0": "ok"}


async def test_retryable_rows_become_final_with_their_last_wave(tmp_path, monkeypatch):
    retries = {"per_row": 2, "waves": 2}
    place = Place(tmp_path, monkeypatch, {A: urls("a.org", 1)}, retries=retries)
    place.answer = lambda _: httpx.Response(500)
    await place.run(0)
    assert place.left()["retryable"] == 1
    await place.run(1)
    assert len(place.asked) == 4
    assert (place.left()["left"], place.states(A)) == (0, {"http://a.org/0": "failed_final"})


async def test_what_fails_leaves_the_count_of_before(tmp_path, monkeypatch):
    place = Place(tmp_path, monkeypatch, {A: urls("a.org", 2)})
    write_json(place.paths.left, {"left": 2})

    def full(*_args, **_settings):
        raise StorageError("the disk is full")

    monkeypatch.setattr(settling, "consolidate", full)
    with pytest.raises(DownloaderError, match="the disk is full"):
        await place.run()
    assert place.left() == {"left": 2}
    assert place.progress() is None
    assert (place.paths.wave(0) / STARTED).exists()
    assert set(place.states(A).values()) == {"ok"}  # committed all the same


def slow_server(place, act):
    """Acts at the third request; then the group asks only now and then."""

    def answer(request):
        if len(place.asked) == 3:
            act()
        return ok(request)

    return answer


@pytest.mark.parametrize("how", ["signal", "request", "out of time"])
async def test_a_wave_that_is_told_to_stop_keeps_what_it_has(tmp_path, monkeypatch, how):
    place = Place(
        tmp_path,
        monkeypatch,
        {A: urls("a.org", 300)},
        downloader_parameters={"default_rate_limit": 50},
    )
    time_is_over = []
    stops = {
        "signal": lambda: os.kill(os.getpid(), signal.SIGTERM),
        "request": lambda: request_stop(place.paths.writer_lock),
        "out of time": lambda: time_is_over.append(True),
    }
    place.answer = slow_server(place, stops[how])
    await place.run(deadline=Deadline(1.0, now=lambda: 2.0 if time_is_over else 0.0))
    images = list(place.states(A).values()).count("ok")
    assert 3 <= images == len(place.asked) < 300
    assert place.left()["pending"] == 300 - images
    assert place.progress()["stopped"]


PROGRESS_OF = {"wave": 4, "changed": 0, "left": 7, "blocked": 0, "stopped": None}


@pytest.mark.parametrize(
    ("changes", "is_wrong"),
    [
        ({}, True),
        ({"changed": 1}, False),
        ({"left": 0}, False),
        ({"blocked": 1}, False),
        ({"blocks": 1}, False),  # a rest that is over by now: something was learned
        ({"stopped": "SIGTERM was received"}, False),
    ],
)
def test_a_wave_that_changed_nothing_is_an_error_unless_it_was_kept_from_it(
    tmp_path, changes, is_wrong
):
    sentence = unchanged({**PROGRESS_OF, **changes}, make_settings(tmp_path))
    assert (sentence is not None) == is_wrong
    if sentence:
        assert "Wave 4 changed nothing: 7 rows are left" in sentence
    quiet = make_settings(tmp_path, suppress_unchanged_error=True)
    assert unchanged({**PROGRESS_OF, **changes}, quiet) is None
