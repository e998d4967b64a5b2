"""How a host of the fleet answers: its state over time, and one decision for each request."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import blake2b
from random import Random

from distributed_downloader.fleet.photos import photo
from distributed_downloader.fleet.plan import HostPlan, Special, Trick
from distributed_downloader.fleet.replies import (
    NO_ANSWER,
    NOT_FOUND,
    TEXT,
    Reply,
    Request,
    not_now,
    trick_reply,
)

CONTENT_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}
LAST_MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT"
REDIRECTS = frozenset({Trick.REDIRECT, Trick.LOOP, Trick.ENDLESS})


class Bucket:
    """A leaky bucket as nginx's limit_req: what comes early fills it, time empties it."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._excess, self._last = 0.0, float("-inf")

    def admits(self, now: float) -> bool:
        """Whether a request at this second is served; a refused one does not fill the bucket."""
        excess = max(0.0, self._excess - self._rate * (now - self._last) + 1.0)
        if excess > self._burst + 1e-9:
            return False
        self._excess, self._last = excess, now
        return True


class Site:
    """One host: photos ready to send, the requests so far, and its bucket (shared in a group)."""

    def __init__(self, plan: HostPlan, port: int = 0, bucket: Bucket | None = None) -> None:
        self.plan = plan
        self._port = port
        self._bucket = bucket or (Bucket(plan.rate, plan.burst) if plan.rate else None)
        self._kinds = [_kind(plan.photo_name(index)) for index in range(plan.images)]
        self._specials = specials_by_path(plan)
        self._photos: dict[int, bytes] = {}
        self._asked: Counter[str] = Counter()  # of each URL, robots.txt apart
        self._first: float | None = None

    def make_photo(self, index: int) -> bytes:
        """The bytes of this image, made once."""
        if index not in self._photos:
            self._photos[index] = photo(self.plan.photo_key(index), self.plan.photos)
        return self._photos[index]

    def reply(self, request: Request, now: float) -> Reply:
        """The answer to this request, arrived at this second of a monotonic clock."""
        reply = self._decide(request, now)
        speed = reply.bytes_per_s or self.plan.bytes_per_s
        return replace(reply, delay_s=self.plan.latency_s, bytes_per_s=speed)

    def _decide(self, request: Request, now: float) -> Reply:
        if not self.plan.answers:
            return NO_ANSWER
        if self._bucket and not self._bucket.admits(now):
            return not_now(self.plan, self.plan.refusal_status)
        if request.path == "/robots.txt":
            return self._robots(request)
        if self._fails(request.target, now):
            return not_now(self.plan, self.plan.failure_status)
        return self._content(request)

    def _content(self, request: Request) -> Reply:
        special = self._specials.get(request.path)
        if special is None:
            return self._image(request)
        if special.trick in REDIRECTS:
            return Reply(302, b"", {"Location": self._location(special, request)})
        return trick_reply(special.trick, self._image(request))

    def _fails(self, target: str, now: float) -> bool:
        self._asked[target] += 1
        self._first = now if self._first is None else self._first
        return (
            self._asked[target] <= self.plan.fails_first
            or self._asked.total() <= self.plan.recovers_after_requests
            or now - self._first < self.plan.recovers_after_s
        )

    def _robots(self, request: Request) -> Reply:
        if request.path in self._specials:
            return Reply(
                302, b"", {"Location": self._location(self._specials[request.path], request)}
            )
        if self.plan.robots is None and self.plan.robots_status == 200:
            return NOT_FOUND
        return Reply(self.plan.robots_status, (self.plan.robots or "").encode(), TEXT)

    def _image(self, request: Request) -> Reply:
        index = self._index(request)
        if index is None:
            return NOT_FOUND
        etag = f'"{self.plan.name}-{index}"'
        headers = {"ETag": etag, "Last-Modified": LAST_MODIFIED, **self.plan.headers}
        if request.headers.get("if-none-match") == etag:
            return Reply(304, b"", headers)
        headers["Content-Type"] = self._kinds[index]
        return Reply(200, self.make_photo(index), headers)

    def _index(self, request: Request) -> int | None:
        """The number in the name; its suffix may lie, as it does for targets of redirects."""
        stem = request.name.partition(".")[0]
        index = int(stem) if stem.isdecimal() and stem.isascii() else -1
        return index if 0 <= index < self.plan.images else None

    def _location(self, special: Special, request: Request) -> str:
        query = request.target.partition("?")[2]
        if special.trick is Trick.LOOP:
            return request.path if query else f"{request.path}?again"
        if special.trick is Trick.ENDLESS:
            return f"{request.path}?hop={int(query.partition('=')[2] or 0) + 1}"
        index = self._index(request)
        return special.to.format(name=request.name, index=index, port=self._port)


def _kind(name: str) -> str:
    return CONTENT_TYPES[name.rpartition(".")[2]]


def specials_by_path(plan: HostPlan) -> dict[str, Special]:
    """Which path plays which trick: shares are drawn by the host's name, then `paths` are set."""
    seed = int.from_bytes(blake2b(plan.name.encode(), digest_size=8).digest())
    order = Random(seed).sample(range(plan.images), plan.images)
    found: dict[str, Special] = {}
    for special in plan.specials:
        count = round(special.share * plan.images)
        for index in order[:count]:
            found[f"{plan.folder}/{plan.photo_name(index)}"] = special
        order = order[count:]
    found.update((path, special) for special in plan.specials for path in special.paths)
    return found


def make_sites(plans: Sequence[HostPlan], port: int) -> dict[str, Site]:
    """The sites by host name, with their photos made; a group has one bucket."""
    buckets: dict[str, Bucket] = {}
    sites: dict[str, Site] = {}
    for plan in plans:
        if plan.rate is not None:
            buckets.setdefault(plan.pace_group, Bucket(plan.rate, plan.burst))
        sites[plan.name] = Site(plan, port, buckets.get(plan.pace_group))
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        made = [
            workers.submit(site.make_photo, index)
            for site in sites.values()
            for index in range(site.plan.images if site.plan.listens else 0)
        ]
    for one in made:
        one.result()
    return sites
