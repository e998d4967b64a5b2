"""One attempt at one URL, at a wire server or a mocked client, and what was seen of it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx

from distributed_downloader.records import Failed, Fetched, Outcome
from distributed_downloader.wire.connections import WireSettings
from distributed_downloader.wire.fetching import Answer, FetchLimits, fetch
from distributed_downloader.wire.resolving import NameSettings
from distributed_downloader.wire.transport import AiohttpTransport, NoCookies
from tests import wire_server as wire

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40


def limits(**over: Any) -> FetchLimits:
    defaults: dict[str, Any] = {"total_s": 5.0, "min_bytes_per_s": 0.0, "max_bytes": 1_000_000}
    return FetchLimits(**{**defaults, **over})


@dataclass
class FakeGate:
    """Lets everything pass, or what `stops` says; `verdicts` are given after an answer, by URL."""

    stops: dict[str, Outcome] = field(default_factory=dict)
    verdicts: dict[str, Failed] = field(default_factory=dict)
    wait_s: float = 0.0
    held_s: float = 0.0  # once the connection stands
    held_back: dict[str, Failed] = field(default_factory=dict)
    cut_off: bool = False
    admitted: list[str] = field(default_factory=list)
    went_out: list[str] = field(default_factory=list)
    answers: list[tuple[str, Answer]] = field(default_factory=list)

    async def admit(self, url: str) -> Outcome | None:
        await asyncio.sleep(self.wait_s)
        stopped = next((out for part, out in self.stops.items() if part in url), None)
        if stopped is None:
            self.admitted.append(url)
        return stopped

    async def leave(self, url: str) -> Failed | None:
        await asyncio.sleep(self.held_s)
        held_back = next((out for part, out in self.held_back.items() if part in url), None)
        if held_back is None:
            self.went_out.append(url)
        return held_back

    async def is_cut_off(self, began: float) -> bool:
        assert began <= asyncio.get_running_loop().time()
        return self.cut_off

    def heard(self, url: str, answer: Answer) -> Failed | None:
        self.answers.append((url, answer))
        return next((out for part, out in self.verdicts.items() if part in url), None)

    @property
    def answer(self) -> Answer:
        ((_, answer),) = self.answers
        return answer


def wire_client(**names: Any) -> httpx.AsyncClient:
    names.setdefault("allow_private", True)
    names.setdefault("lookup", lambda _: [])
    settings = WireSettings(names=NameSettings(**names), connect_s=2.0)
    return httpx.AsyncClient(
        transport=AiohttpTransport(settings), trust_env=False, cookies=NoCookies(), timeout=None
    )


@dataclass
class Seen:
    """What one attempt came to, from both ends of the wire."""

    outcome: Outcome
    gate: FakeGate
    server: wire.WireServer

    @property
    def failed(self) -> Failed:
        assert isinstance(self.outcome, Failed), self.outcome
        return self.outcome

    @property
    def fetched(self) -> Fetched:
        assert isinstance(self.outcome, Fetched), self.outcome
        return self.outcome


def attempt(
    script: wire.Script,
    *,
    target: str = "/a.jpg",
    gate: FakeGate | None = None,
    tls: bool = False,
    **over: Any,
) -> Seen:
    """One `fetch` from a wire server; every connection must have ended when the client closes."""
    gate = gate or FakeGate()

    async def main() -> Seen:
        async with wire.serve(script, tls=tls) as server, asyncio.timeout(20):
            async with wire_client() as client:
                url = server.url(target)
                outcome = await fetch(client, url, limits=limits(**over), gate=gate)
            await server.all_ended()
            return Seen(outcome, gate, server)

    return asyncio.run(main())


def mocked(answer: httpx.Response | Exception, url: str = "http://img.example/a.jpg") -> Outcome:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main() -> Outcome:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as client:
            return await fetch(client, url, limits=limits(), gate=FakeGate())

    return asyncio.run(main())
