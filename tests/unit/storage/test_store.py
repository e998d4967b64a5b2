"""What stands in memory: when it is committed, and what becomes of a commit that fails."""

import asyncio

import pytest

from distributed_downloader.errors import LockError, StorageError
from distributed_downloader.paths import Batch
from distributed_downloader.records import Try
from distributed_downloader.storage import store as room
from distributed_downloader.storage.parts import PartNames, list_parts
from distributed_downloader.storage.store import Store
from tests.unit.conftest import make_settings
from tests.unit.storage_folder import NOT_FOUND, encoded, fetched, row

pytestmark = pytest.mark.anyio

ONE, TWO = Batch("one.test", 0), Batch("two.test", 0)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(room, "TICK_S", 0.001)


class Disk:
    """Says whether a commit may go on; counts how often it was asked."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.asked = 0

    def __call__(self):
        self.asked += 1
        if self.errors and (error := self.errors.pop(0)):
            raise error


def store_of(tmp_path, *errors, **flush):
    settings = make_settings(tmp_path, flush=flush)
    return Store(settings, PartNames(0, 0), Disk(*errors)), settings.paths


def parts(paths, batch):
    return len(list_parts(paths.batch_images(batch)))


def fail(store, batch, number=0):
    store.add_error(Try(row(number, batch=batch)), NOT_FOUND)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def test_flush_commits_one_part_for_each_batch(tmp_path):
    store, paths = store_of(tmp_path)
    for number in range(3):
        fail(store, ONE, number)
    store.add_image(Try(row(9, batch=TWO)), fetched(9), encoded(b"bytes"))
    await store.flush()
    await store.flush()
    assert (parts(paths, ONE), parts(paths, TWO)) == (1, 1)


async def test_what_is_old_enough_is_committed_without_being_told(tmp_path, monkeypatch):
    store, paths = store_of(tmp_path, seconds=1)
    flushing = asyncio.create_task(store.keep_flushing())
    fail(store, ONE)
    writer = store._writers[ONE]
    assert not store._is_old(writer)
    writer._since -= 1.5
    await until(lambda: parts(paths, ONE))
    store.close()
    await flushing


@pytest.mark.parametrize(("age_s", "is_old"), [(0, False), (59, False), (61, True), (-5, True)])
async def test_a_calendar_that_is_set_back_does_not_keep_rows_in_memory(tmp_path, age_s, is_old):
    store, _ = store_of(tmp_path, seconds=60)
    fail(store, ONE)
    writer = store._writers[ONE]
    writer._clock = lambda: writer._since + age_s
    assert store._is_old(writer) == is_old


async def test_a_heavy_buffer_is_committed_and_holds_up_who_fetches_meanwhile(tmp_path):
    store, paths = store_of(tmp_path, seconds=3600, max_bytes=1_000_000)
    await asyncio.wait_for(store.has_room(), 20)
    store.add_image(Try(row(0, batch=ONE)), fetched(0), encoded(b"x" * 2_100_000))
    waiting = asyncio.create_task(store.has_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    flushing = asyncio.create_task(store.keep_flushing())
    await asyncio.wait_for(waiting, 20)
    assert parts(paths, ONE) == 1
    store.close()
    await flushing


async def test_a_commit_that_fails_costs_no_other_and_is_tried_once_more(tmp_path):
    full = StorageError("the disk is full")
    store, paths = store_of(tmp_path, full)
    fail(store, ONE)
    fail(store, TWO)
    with pytest.raises(StorageError, match="the disk is full"):
        await store.flush()
    assert parts(paths, ONE) + parts(paths, TWO) == 1
    fail(store, ONE, 1)
    await store.flush()
    assert parts(paths, ONE) + parts(paths, TWO) == 3


async def test_a_run_that_lost_its_lock_commits_nothing(tmp_path):
    lost = LockError("taken over")
    store, paths = store_of(tmp_path, *[lost] * 9)  # it stays lost, however often it is asked
    fail(store, ONE)
    fail(store, TWO)
    with pytest.raises(LockError):
        await store.flush()
    assert parts(paths, ONE) + parts(paths, TWO) == 0
