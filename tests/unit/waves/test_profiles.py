"""What samples say of a server, and the table that a person may read and edit."""

import httpx
import polars as pl
import pytest

from distributed_downloader.courtesy.budgets import Budget
from distributed_downloader.errors import DownloaderError
from distributed_downloader.paths import Batch
from distributed_downloader.records import ErrorClass, Failed, Fetched
from distributed_downloader.storage import store
from distributed_downloader.storage.batch_files import read_states
from distributed_downloader.storage.lock import Lock, request_stop
from distributed_downloader.waves import profiles, rank, wave
from distributed_downloader.waves.profiles import GENTLE_RATE, Sampled, limits_of, profile_servers
from tests.unit.batches import partition
from tests.unit.conftest import make_settings
from tests.unit.waves.test_wave import photo, urls

pytestmark = pytest.mark.anyio

DEAD = Failed(ErrorClass.CONNECT, -1, "nobody", retryable=True)
MISSING = Failed(ErrorClass.NOT_FOUND, 404, "HTTP 404", retryable=False)
PRESSED = Failed(ErrorClass.RATE_LIMITED, 429, "HTTP 429", retryable=True)
NO = Failed(ErrorClass.ROBOTS_DISALLOWED, -2, "no", retryable=False)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(rank, "LOOK_S", 0.005)
    monkeypatch.setattr(rank, "GRACE_S", 0.05)
    monkeypatch.setattr(store, "TICK_S", 0.005)
    monkeypatch.setattr(wave, "EXCHANGE_S", 0.005)


def image(latency_s):
    return Fetched(b"x" * 100, 200, "http://a.org/1", "image/jpeg", None, None, latency_s)


@pytest.mark.parametrize(
    ("outcomes", "crawl_delay_s", "rate"),
    [
        ([], None, 10.0),  # nothing was sampled: its budget
        ([image(0.1)], None, 10.0),
        ([image(1.0)], None, 4.0),  # what 4 connections carry
        ([image(1.0), image(1.0), image(60.0)], None, 4.0),  # the median
        ([image(0.1)], 5.0, 0.2),
        ([image(1.0)], 0.01, 4.0),
        ([DEAD, DEAD], None, GENTLE_RATE),
        ([PRESSED], None, GENTLE_RATE),
        ([MISSING], None, 10.0),  # it answers
        ([DEAD, image(0.1)], None, 10.0),
        ([DEAD], 20.0, 0.05),
        ([image(0.0)], None, 10.0),
    ],
)
def test_the_limits_of_a_server(outcomes, crawl_delay_s, rate):
    sampled = Sampled()
    for outcome in outcomes:
        sampled.take(outcome)
    budget = Budget("a.org", 10.0, connections=4)
    limits = limits_of(budget, sampled, crawl_delay_s)
    assert limits["rate_limit"] == pytest.approx(rate)
    assert limits["configured_limit"] == 10.0
    slower = [limit for limit in (limits["measured_limit"],) if limit is not None]
    assert min([10.0, *slower]) == pytest.approx(rate)


class Place:
    """Servers over MockTransport, and the profile made of them."""

    def __init__(self, tmp_path, monkeypatch, batches, samples=2, rate=500):
        self.settings = make_settings(
            tmp_path,
            profile={"samples": samples},
            downloader_parameters={"default_rate_limit": rate},
        )
        self.paths = self.settings.paths
        self.asked, self.tried = [], []
        partition(self.paths, batches)
        monkeypatch.setattr(profiles, "client_of", self.client)
        monkeypatch.setattr(profiles, "check_way_out", self.reach)

    async def reach(self, _settings, servers) -> None:
        """These servers need no network."""
        self.tried += servers

    def client(self, _settings):
        return httpx.AsyncClient(transport=httpx.MockTransport(self.handle))

    def handle(self, request):
        self.asked.append(str(request.url))
        if request.url.path == "/robots.txt":
            text = "User-agent: *\nCrawl-delay: 0.1\nDisallow: /no\n"
            return httpx.Response(200 if request.url.host == "slow.org" else 404, text=text)
        if request.url.host == "dead.org":
            raise httpx.ConnectError("nobody there")
        return httpx.Response(200, content=photo())

    async def run(self):
        self.lock = Lock.acquire(self.paths.writer_lock, role="profile")
        try:
            await profile_servers(self.settings, self.lock)
        finally:
            self.lock.release()
        return {row["server_name"]: row for row in self.table().iter_rows(named=True)}

    def table(self):
        return pl.read_csv(self.paths.profiles_table)

    def images(self):
        return [url for url in self.asked if not url.endswith("robots.txt")]


A = Batch("a.org", 0)


async def test_samples_are_spread_kept_and_not_asked_for_again(tmp_path, monkeypatch):
    batches = {A: urls("a.org", 10), Batch("a.org", 1): urls("a.org", 10)}
    place = Place(tmp_path, monkeypatch, batches)
    table = await place.run()
    assert place.images() == ["http://a.org/0", "http://a.org/5"]
    row = table["a.org"]
    assert (row["total_batches"], row["total_rows"], row["success_count"]) == (2, 20, 2)
    assert row["mean_bytes"] == len(photo())
    states = read_states(A, place.paths, 3)
    assert dict(states.select("uuid", "state").iter_rows()) == {
        "http://a.org/0": "ok",
        "http://a.org/5": "ok",
    }
    await place.run()
    assert len(place.images()) == len(set(place.images())) == 4


async def test_each_server_is_told_apart(tmp_path, monkeypatch):
    batches = {
        Batch(server, 0): [*urls(server, 3), f"http://{server}/no"]
        for server in ("a.org", "slow.org", "dead.org", "stop.org")
    }
    batches[Batch("_small-12ab", 0)] = urls("tiny.org", 1)
    place = Place(tmp_path, monkeypatch, batches, samples=4)
    place.paths.ignored_table.write_text("server_name\nstop.org\n")
    table = await place.run()
    assert (table["slow.org"]["crawl_delay_s"], table["slow.org"]["rate_limit"]) == (0.1, 10.0)
    assert (table["slow.org"]["disallowed_count"], table["slow.org"]["success_count"]) == (1, 3)
    assert (table["dead.org"]["error_count"], table["dead.org"]["rate_limit"]) == (4, GENTLE_RATE)
    assert not any("stop.org" in url or "tiny.org" in url for url in place.asked)
    assert sorted(place.tried) == ["a.org", "dead.org", "slow.org"]
    assert set(table) == {"a.org", "slow.org", "dead.org", "stop.org", "_small-12ab"}
    assert place.asked.count("http://dead.org/robots.txt") == 1
    assert read_states(Batch("dead.org", 0), place.paths, 3).is_empty()  # left as they were


async def test_no_samples_ask_nobody(tmp_path, monkeypatch):
    place = Place(tmp_path, monkeypatch, {A: urls("a.org", 3)}, samples=0)
    table = await place.run()
    assert place.asked == []
    assert table["a.org"]["rate_limit"] == 500


async def test_a_list_without_a_url_to_fetch_has_an_empty_table(tmp_path, monkeypatch):
    place = Place(tmp_path, monkeypatch, {})
    assert await place.run() == {}


async def test_told_to_stop_it_keeps_the_samples_and_writes_no_table(tmp_path, monkeypatch):
    place = Place(tmp_path, monkeypatch, {A: urls("a.org", 3)}, rate=2)
    answer = place.handle

    def stop_then_answer(request):
        request_stop(place.paths.writer_lock)
        return answer(request)

    place.handle = stop_then_answer
    with pytest.raises(DownloaderError, match="a later run asked for it"):
        await place.run()
    assert not place.paths.profiles_table.exists()
