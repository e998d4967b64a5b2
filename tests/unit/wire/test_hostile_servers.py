"""Every way of being a hostile server, by name: each ends in time, with its word, alone."""

import asyncio
import gzip
import resource
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distributed_downloader.records import ErrorClass, Failed, Fetched, Outcome
from distributed_downloader.wire.connections import WireSettings
from distributed_downloader.wire.fetching import FetchLimits, fetch
from distributed_downloader.wire.resolving import NameSettings
from distributed_downloader.wire.transport import AiohttpTransport, NoCookies
from tests import wire_server as wire
from tests.wire_modes import CHUNKED, JPEG, MODES, MOST_BYTES, SLOW

DEADLINE_S = 2.5
HURRIED = FetchLimits(
    total_s=DEADLINE_S, min_bytes_per_s=2_000.0, max_bytes=MOST_BYTES, window_s=1.0
)
PATIENT_S = 30.0  # no word but that of the deadline itself is owed to it
PATIENT = replace(HURRIED, total_s=PATIENT_S, window_s=PATIENT_S)
MOST_MEMORY = 150_000_000  # bytes that this process may grow by while all modes are at work


class Moved(httpx.Response):
    """A redirect that httpx leaves alone, as it does those of the transport."""

    has_redirect_location = False  # type: ignore[assignment]

    def __init__(self, location: str) -> None:
        super().__init__(302, headers=[(b"Location", location.encode())])


class OpenGate:
    """Lets everything pass."""

    async def admit(self, url: str) -> Outcome | None:
        return None

    async def leave(self, url: str) -> Failed | None:
        return None

    async def is_cut_off(self, began: float) -> bool:
        return False

    def heard(self, url: str, answer: object) -> Failed | None:
        return None


@asynccontextmanager
async def one_client(**names: Any) -> AsyncIterator[httpx.AsyncClient]:
    names = {"allow_private": True, "lookup": lambda _: [], **names}
    transport = AiohttpTransport(WireSettings(names=NameSettings(**names), connect_s=DEADLINE_S))
    client = httpx.AsyncClient(
        transport=transport, trust_env=False, cookies=NoCookies(), timeout=None
    )
    async with client:
        yield client


@dataclass(frozen=True, slots=True)
class End:
    outcome: Outcome
    took_s: float


def is_late(name: str) -> bool:
    """Whether nothing but the deadline, or the smallest speed, ends this mode."""
    return MODES[name].words == SLOW


def word_of(end: End) -> ErrorClass | None:
    return end.outcome.error_class if isinstance(end.outcome, Failed) else None


async def ask(client: httpx.AsyncClient, url: str, limits: FetchLimits = PATIENT) -> End:
    clock = asyncio.get_running_loop().time
    began = clock()
    outcome = await fetch(client, url, limits=limits, gate=OpenGate())
    return End(outcome, clock() - began)


async def all_modes() -> tuple[Mapping[str, End], list[End]]:
    """What came of every mode at once, each on a server of its own, and of a good neighbour's rows.

    Those that only a deadline ends are asked together: they wait. The others have no reason to be
    late: one by one, and with time enough for a busy machine, so that their first answer counts.
    """
    async with AsyncExitStack() as stack, one_client() as client:
        good = await stack.enter_async_context(wire.serve(wire.answers(wire.reply(200, JPEG))))
        servers = {
            name: await stack.enter_async_context(wire.serve(mode.script))
            for name, mode in MODES.items()
        }
        late = {
            name: asyncio.create_task(ask(client, servers[name].url(), HURRIED))
            for name in MODES
            if is_late(name)
        }
        neighbours = [await ask(client, good.url(f"/{number}")) for number in range(25)]
        ends = {name: await task for name, task in late.items()}
        for name in (name for name in MODES if name not in late):
            ends[name] = await ask(client, servers[name].url())
            neighbours.append(await ask(client, good.url(f"/after {name}".replace(" ", "-"))))
    return ends, neighbours


@pytest.fixture(scope="module")
def grown_by() -> Callable[[], int]:
    """Bytes by which this process's peak has grown since."""

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    before = peak()
    return lambda: peak() - before


@pytest.fixture(scope="module")
def ends(grown_by: Callable[[], int]) -> tuple[Mapping[str, End], list[End]]:
    return asyncio.run(all_modes())


@pytest.mark.parametrize("name", MODES)
def test_a_hostile_mode_ends_in_time_with_its_word(
    name: str, ends: tuple[Mapping[str, End], list[End]]
) -> None:
    end = ends[0][name]
    assert word_of(end) in (MODES[name].words or {None}), end.outcome
    assert end.took_s < (DEADLINE_S + 1.0 if is_late(name) else PATIENT_S)
    if isinstance(end.outcome, Failed):
        assert end.outcome.error_msg.isprintable()
        assert len(end.outcome.error_msg) < 500
        assert "s3cret" not in end.outcome.error_msg
    else:
        assert isinstance(end.outcome, Fetched)
        assert end.outcome.body == JPEG


def test_the_rows_of_other_servers_lose_nothing(
    ends: tuple[Mapping[str, End], list[End]], grown_by: Callable[[], int]
) -> None:
    assert all(isinstance(end.outcome, Fetched) for end in ends[1])
    assert grown_by() < MOST_MEMORY


NAMES = st.sampled_from(
    ["content-type", "content-encoding", "content-length", "location", "etag", "last-modified"]
)
WORDS = st.sampled_from(
    [
        *(b"text/html", b"TEXT/HTML;charset", b"image/jpeg", b"gzip", b"gzip, br", b"deflate"),
        *(b"/b", b"//[", b"http://me:s3cret@a.example/", b"ftp://s3cret@b", b"99", b"\xd9\xa3"),
    ]
)
HEADERS = st.lists(st.tuples(NAMES.map(str.encode), WORDS | st.binary(max_size=40)), max_size=6)
BODIES = st.sampled_from([b"", b"<html>", JPEG, gzip.compress(JPEG)]) | st.binary(max_size=99)


class Unread(httpx.AsyncByteStream):
    """A body that comes when it is asked for."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


@example(302, [(b"location", b"/b"), (b"location", b"ftp://s3cret@b")], b"")
@given(st.sampled_from([200, 200, 204, 206, 302, 304, 404, 429, 999]), HEADERS, BODIES)
def test_whatever_an_answer_says_of_itself_there_is_an_outcome(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        response = Moved("")
        response.status_code, response.headers = status, httpx.Headers(headers)
        response.stream = Unread(body)
        del response._content
        return response

    async def main() -> Outcome:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            return await fetch(client, "http://a.example/1", limits=PATIENT, gate=OpenGate())

    outcome = asyncio.run(main())
    assert isinstance(outcome, Fetched | Failed)
    if isinstance(outcome, Failed):
        assert outcome.error_msg.isprintable()
        assert "s3cret" not in outcome.error_msg


@pytest.mark.parametrize(
    "whole",
    [
        wire.reply(200, JPEG[:30], content_type="image/jpeg"),
        CHUNKED + b"14\r\n" + JPEG[:20] + b"\r\na\r\n" + JPEG[20:30] + b"\r\n0\r\n\r\n",
    ],
    ids=["length", "chunks"],
)
def test_a_reset_at_any_byte_is_an_end_and_never_half_an_image(whole: bytes) -> None:
    async def script(exchange: wire.Exchange) -> None:
        await exchange.write(whole[: int(exchange.request.target[1:])])
        exchange.reset()

    async def main() -> list[End]:
        async with wire.serve(script) as server, one_client() as client:
            return [await ask(client, server.url(f"/{cut}")) for cut in range(len(whole) + 1)]

    for end in asyncio.run(main()):
        assert end.took_s < PATIENT_S
        if isinstance(end.outcome, Fetched):
            assert end.outcome.body == JPEG[:30]
        else:
            assert isinstance(end.outcome, Failed)
            assert end.outcome.error_class is ErrorClass.RESET


@pytest.mark.parametrize(
    ("host", "certificate", "is_trusted", "word"),
    [
        ("tls.example", wire.CERTIFICATE, True, None),
        ("tls.example", wire.CERTIFICATE, False, ErrorClass.TLS_SELF_SIGNED),
        ("else.example", wire.CERTIFICATE, True, ErrorClass.TLS_WRONG_NAME),
        ("127.0.0.2", wire.CERTIFICATE, True, ErrorClass.TLS_WRONG_NAME),
        ("tls.example", wire.EXPIRED, True, ErrorClass.TLS_EXPIRED),
    ],
)
def test_what_is_wrong_with_a_certificate_has_its_word(
    host: str, certificate: Path, is_trusted: bool, word: ErrorClass | None
) -> None:
    hosts = dict.fromkeys(["tls.example", "else.example", "127.0.0.2"], "127.0.0.1")

    async def main() -> Outcome:
        settings = WireSettings(
            names=NameSettings(allow_private=True, hosts=hosts, lookup=lambda _: []),
            extra_ca=str(certificate) if is_trusted else None,
        )
        client = httpx.AsyncClient(transport=AiohttpTransport(settings), trust_env=False)
        serving = wire.serve(
            wire.answers(wire.reply(200, JPEG)), tls=True, certificate=certificate, at="0.0.0.0"
        )
        async with serving as server, client:
            return (await ask(client, server.url(host=host))).outcome

    outcome = asyncio.run(main())
    assert (outcome.error_class if isinstance(outcome, Failed) else None) == word


# ---------------------------------------------------------------- where a request goes


def test_a_redirect_to_a_private_address_is_not_followed_whatever_spells_it() -> None:
    targets = [
        "http://127.0.0.1:{port}/",
        "http://home.example:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "//localhost:{port}/",
    ]

    def moved(request: httpx.Request) -> httpx.Response:
        target = targets[int(request.url.path[1:])]
        return Moved(target.format(port=port))

    port = 0

    async def main() -> list[Outcome]:
        nonlocal port
        names = NameSettings(lookup=lambda _: ["127.0.0.1", "::1"])
        async with wire.serve(wire.answers(wire.reply(200, JPEG))) as server:
            port = server.port
            async with httpx.AsyncClient(
                transport=AiohttpTransport(WireSettings(names=names)),
                mounts={"all://public.example": httpx.MockTransport(moved)},
            ) as client:
                urls = [f"http://public.example/{number}" for number in range(len(targets))]
                ends = [await ask(client, url) for url in urls]
            assert server.connections == 0
            return [end.outcome for end in ends]

    for outcome in asyncio.run(main()):
        assert isinstance(outcome, Failed)
        assert outcome.error_class is ErrorClass.PRIVATE_ADDRESS


def word_of_redirect(location: str) -> ErrorClass | None:
    """What comes of public servers that lead there; `{port}` is one of ours, which nobody asks."""

    async def main() -> End:
        async with wire.serve(wire.answers(wire.reply(200, JPEG))) as server:
            moved = httpx.MockTransport(lambda _: Moved(location.format(port=server.port)))
            names = NameSettings(lookup=lambda _: ["127.0.0.1", "::1"])
            async with httpx.AsyncClient(
                transport=AiohttpTransport(WireSettings(names=names)),
                mounts={"all://public.example": moved, "all://a.example": moved},
            ) as client:
                end = await ask(client, "http://public.example/")
            assert server.connections == 0
            return end

    return word_of(asyncio.run(main()))


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f.1", "017700000001", "①②⑦.⓪.⓪.①", "127。0。0。1", "[::1]"]
)
def test_no_spelling_of_a_redirect_reaches_this_machine(host: str) -> None:
    word = word_of_redirect(f"http://{host}:{{port}}/")
    assert word in {ErrorClass.PRIVATE_ADDRESS, ErrorClass.REDIRECT_INVALID}


@pytest.mark.parametrize(
    "location",
    [
        *(
            "//127.0.0.1:{port}/",
            "/\\127.0.0.1:{port}/",
            "\\\\127.0.0.1:{port}/",
            "http:127.0.0.1:{port}",
        ),
        *("http:/127.0.0.1:{port}/", "https:\\127.0.0.1:{port}/", "\t//127.0.0.1:{port}/"),
        *("http://a.example@127.0.0.1:{port}/", "http://a.example\\@127.0.0.1:{port}/"),
        *("http://127.0.0.1:{port}\\.a.example/", "http://127.0.0.1:{port}#@a.example/"),
        *("http://127.0.0.1:{port}?@a.example/", "http://a.example:80@127.0.0.1:{port}/"),
        *("http://[::ffff:0:7f00:1]:{port}/", "http://[64:ff9b::127.0.0.1]:{port}/"),
        *("http://[64:ff9b:1::7f00:1]:{port}/", "http://[::127.0.0.1]:{port}/"),
        *("http://[fe80::1%25lo]:{port}/", "http://[::1%lo]:{port}/", "http://0:{port}/"),
        *("http://0.0.0.0:{port}/", "http://127%2e0%2e0%2e1:{port}/", "http://localhost.:{port}/"),
        *(
            "HTTP://LOCALHOST:{port}/",
            "http://\u24dbocalhost:{port}/",
            "http://127.0.0.1%00:{port}/",
        ),
        *("file://127.0.0.1:{port}/", "gopher://127.0.0.1:{port}/_x", "dict://127.0.0.1:{port}/"),
        *("javascript:alert(1)", "data:image/png;base64,AAAA", "http://", "//", "http://:{port}/"),
    ],
)
def test_no_way_of_writing_a_location_leads_to_this_machine(location: str) -> None:
    """Some lead back to where they came from, which is a loop; none leads in."""
    refused = {ErrorClass.PRIVATE_ADDRESS, ErrorClass.REDIRECT_INVALID, ErrorClass.REDIRECT_LOOP}
    assert word_of_redirect(location) in refused


def test_a_name_is_looked_up_once_and_what_was_judged_is_connected_to() -> None:
    """A rebinding name has another address at each question: there is no second question."""
    asked: list[str] = []

    def rebinding(name: str) -> list[str]:
        asked.append(name)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async def main() -> None:
        async with (
            wire.serve(wire.answers(wire.reply(200, JPEG))) as server,
            one_client(lookup=rebinding) as client,
        ):
            ends = [await ask(client, server.url(host="re.example")) for _ in range(3)]
            assert all(isinstance(end.outcome, Fetched) for end in ends)

    asyncio.run(main())
    assert asked == ["re.example"]


def test_passwords_in_a_redirect_are_not_sent_nor_kept() -> None:
    async def main() -> None:
        async with wire.serve(wire.answers()) as server, one_client() as client:
            location = f"http://me:s3cret@127.0.0.1:{server.port}/b"
            server.script = wire.redirects_to(location)
            outcome = (await ask(client, server.url())).outcome
            assert isinstance(outcome, Fetched)
            assert outcome.final_url == server.url("/b")
            assert b"authorization" not in server.requests[1].raw.lower()
            assert b"s3cret" not in server.requests[1].raw

    asyncio.run(main())
