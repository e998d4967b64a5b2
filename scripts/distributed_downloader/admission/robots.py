"""robots.txt (RFC 9309): what it says, and one copy per authority on disk for the whole job.

1. 2xx is read, 500 KiB of it at most, as far as it can be read; 3xx are followed by the caller, up
   to five; what is still 3xx, and 4xx, means no rules: all is allowed.
2. 5xx, 429 and no answer mean: disallowed for now. That holds for `UNREACHABLE_S`, and in the
   process that asked only, so that the next wave asks again; every other copy for 24 hours.
3. The longest match decides (protego), for the group of our product token, else for `*`.

Fetching comes in as a callable; nothing here knows the network.
"""

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from protego import Protego

from distributed_downloader.durable import read_json, write_json

MAX_BYTES = 500 * 1024  # RFC 9309 2.5
CRAWL_DELAYS_S = (0.001, 86_400.0)  # a shorter one says nothing, a longer one means a day
FRESH_S = 86_400.0  # RFC 9309 2.4
UNREACHABLE_S = 60.0
KEPT_BYTES = 16 * 2**20  # of texts whose rules stay in memory
MAX_NAME = 180  # bytes of a file name that any file system takes, suffix and prefix included

_AGENT_LINE = re.compile(r"\s*user[-\s]*agent(?![\w-])\s*:?(?P<value>[^#]*)", re.IGNORECASE)
_PRODUCT = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_BROWSER = frozenset({"mozilla", "compatible", "applewebkit", "chrome", "safari", "gecko"})


class Permit(StrEnum):
    """What robots.txt means for one URL."""

    ALLOWED = "allowed"
    DISALLOWED = "disallowed"
    UNREACHABLE = "unreachable"  # disallowed for now


@dataclass(frozen=True, slots=True)
class RobotsAnswer:
    """What came of the request for a robots.txt, redirects followed."""

    status: int | None  # None: no answer
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Rules:
    """A robots.txt as far as it concerns us."""

    authority: str
    status: int | None
    parsed: Protego | None  # None: all is allowed, or nothing for now

    @property
    def is_unreachable(self) -> bool:
        """Whether nothing is known, so that nothing is allowed for now."""
        return _is_unreachable(self.status)


def product_token(user_agent: str) -> str:
    """The name that a robots.txt calls us by: of `my-bot/1.0 (me@my.org)`, `my-bot`."""
    names = _PRODUCT.findall(re.sub(r"https?://\S+|\S+@\S+", " ", user_agent))
    return next((name.lower() for name in names if name.lower() not in _BROWSER), "*")


def authority_of(url: str) -> str:
    """What a robots.txt holds for: scheme, host and port, as `https://example.org:8443`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


def verdict(rules: Rules, url: str, agent: str) -> Permit:
    """Whether a client with this product token may ask for the URL."""
    if rules.is_unreachable:
        return Permit.UNREACHABLE
    if rules.parsed is None:
        return Permit.ALLOWED
    try:
        is_allowed = rules.parsed.can_fetch(url, agent)
    except ValueError:  # a URL that cannot be split: no rule is about it
        is_allowed = True
    return Permit.ALLOWED if is_allowed else Permit.DISALLOWED


def evidence(rules: Rules, url: str, agent: str) -> str:
    """The sentence that goes with a row that is refused."""
    if rules.is_unreachable:
        status = "does not answer" if rules.status is None else f"answers {rules.status}"
        return f"{rules.authority}/robots.txt {status}: disallowed for now"
    return f"{rules.authority}/robots.txt disallows {urlsplit(url).path[:200]} for {agent}"


def crawl_delay_s(rules: Rules, agent: str) -> float | None:
    """Seconds between two requests that the server asks for, a day at most; None: it does not."""
    delay_s = rules.parsed.crawl_delay(agent) if rules.parsed is not None else None
    shortest, longest = CRAWL_DELAYS_S
    return min(delay_s, longest) if delay_s is not None and delay_s >= shortest else None


def parse(authority: str, answer: RobotsAnswer, agent: str) -> Rules:
    """Rules of an answer, whatever is in it."""
    is_read = answer.status is not None and 200 <= answer.status < 300
    parsed = Protego.parse(_relevant(answer.body, agent)) if is_read else None
    return Rules(authority, answer.status, parsed)


def _relevant(body: bytes, agent: str) -> str:
    """The text, cut, with agents that we are not made one: a hostile list of agents costs nothing.

    (Each rule is kept for each agent of its group, so a thousand of both are a million.)
    """
    whole = body[: MAX_BYTES + 1]
    if len(whole) > MAX_BYTES:
        whole = whole[: max(whole.rfind(b"\n", 0, MAX_BYTES), 0)]
    text = whole.decode("utf-8", "replace").removeprefix("\ufeff").replace("\0", "")
    return "\n".join(_without_others(line, agent) for line in text.splitlines())


def _without_others(line: str, agent: str) -> str:
    """An exact match of the token counts, with or without a version behind it (RFC 9309 2.2.1)."""
    found = _AGENT_LINE.match(line)
    if found is None or not found["value"].strip():
        return line
    if found["value"].strip() == "*":
        return "User-agent: *"
    name = _PRODUCT.match(found["value"].strip())
    return f"User-agent: {agent}" if name and name[0].lower() == agent else "User-agent: ~"


def _is_unreachable(status: int | None) -> bool:
    return status is None or status >= 500 or status == 429


Fetch = Callable[[str], Awaitable[RobotsAnswer]]


@dataclass(frozen=True, slots=True)
class _Copy:
    fetched_at: float  # unix seconds
    rules: Rules
    nbytes: int


class RobotsCache:
    """Rules by authority: parsed ones in memory, answers on disk for all ranks and waves."""

    def __init__(self, folder: Path, agent: str, wall: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._agent = agent
        self._wall = wall
        self._parsed: OrderedDict[str, _Copy] = OrderedDict()
        self._bytes = 0
        self._fetching: dict[str, asyncio.Lock] = {}

    async def rules(self, authority: str, fetch: Fetch) -> Rules:
        """Rules of the authority; `fetch` is called with the robots.txt's URL if no copy is fresh.

        However many ask at once, one fetches. What `fetch` raises is raised, and nothing kept.
        """
        async with self._fetching.setdefault(authority, asyncio.Lock()):
            kept = self._parsed.get(authority)
            if kept is None:  # disks and long texts take their time: not in the loop
                kept = await asyncio.to_thread(self._read, authority)
            if kept is None or not self._is_fresh(kept):
                answer = await fetch(f"{authority}/robots.txt")
                kept = await asyncio.to_thread(self._store, authority, answer)
            self._remember(kept)
        self._fetching.pop(authority, None)
        return kept.rules

    def _store(self, authority: str, answer: RobotsAnswer) -> _Copy:
        """Keep an answer, durably. Raises StorageError."""
        fetched_at = self._wall()
        write_json(
            self._file(authority),
            {
                "authority": authority,
                "status": answer.status,
                "fetched_at": fetched_at,
                "body": answer.body[: MAX_BYTES + 1].decode("utf-8", "replace"),
            },
        )
        return self._copy(authority, fetched_at, answer)

    def _is_fresh(self, kept: _Copy) -> bool:
        lasts_s = UNREACHABLE_S if kept.rules.is_unreachable else FRESH_S
        return 0 <= self._wall() - kept.fetched_at < lasts_s

    def _read(self, authority: str) -> _Copy | None:
        try:
            copy: Any = read_json(self._file(authority))
            if copy is None or copy["authority"] != authority:
                return None
            if _is_unreachable(copy["status"]):
                return None  # rows of this wave must not be lost to what happened in another
            answer = RobotsAnswer(copy["status"], copy["body"].encode("utf-8", "replace"))
            fetched_at = float(copy["fetched_at"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return None  # a copy that cannot be read is fetched again
        return self._copy(authority, fetched_at, answer)

    def _copy(self, authority: str, fetched_at: float, answer: RobotsAnswer) -> _Copy:
        rules = parse(authority, answer, self._agent)
        return _Copy(fetched_at, rules, min(len(answer.body), MAX_BYTES) + 1000)

    def _remember(self, kept: _Copy) -> None:
        authority = kept.rules.authority
        before = self._parsed.pop(authority, None)
        self._parsed[authority] = kept
        self._bytes += kept.nbytes - (before.nbytes if before else 0)
        while self._bytes > KEPT_BYTES:
            self._bytes -= self._parsed.popitem(last=False)[1].nbytes

    def _file(self, authority: str) -> Path:
        name = quote(authority, safe="")
        if len(name) > MAX_NAME:
            name = hashlib.sha256(authority.encode()).hexdigest()
        return self._folder / f"{name}.json"
