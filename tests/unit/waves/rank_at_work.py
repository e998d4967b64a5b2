"""A rank whose gate, codec and store are the test's, and what came of its rows."""

import asyncio
import io
from collections import defaultdict
from dataclasses import dataclass, field, replace

import httpx
from PIL import Image

from distributed_downloader.codec.images import encode
from distributed_downloader.errors import StorageError
from distributed_downloader.paths import Batch
from distributed_downloader.records import ErrorClass, Failed, Row
from distributed_downloader.waves.group_queue import GroupQueue
from distributed_downloader.waves.rank import Rank
from distributed_downloader.waves.tries import Effort
from tests.unit.conftest import make_settings

BATCH = Batch("a.org", 0)
BROKEN = Failed(ErrorClass.SERVER_ERROR, 503, "HTTP 503", retryable=True)
FREE = replace(BROKEN, costs_a_try=False)
DOWN = Failed(ErrorClass.SERVER_DOWN, -1, "not asked", retryable=True, is_over_for_now=True)


class InThisThread:
    """The codec without its processes, which take their time to start."""

    def __init__(self, images, _processes):
        self._images = images

    async def encode(self, body, **promised):
        return encode(body, self._images, **promised)

    def close(self):
        pass


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
