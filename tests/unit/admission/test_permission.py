"""robots.txt as the gate meets it: asked once, obeyed, and never made up."""

import asyncio
from dataclasses import dataclass, field

import httpx
import pytest

from distributed_downloader.admission.permission import Permission
from distributed_downloader.records import ErrorClass, Failed, Redirected
from distributed_downloader.wire.failures import PrivateAddressError
from distributed_downloader.wire.fetching import Answer
from tests.unit.conftest import make_settings

pytestmark = pytest.mark.anyio

URL = "http://a.org/photos/1.jpg"
DISALLOW = "User-agent: *\nDisallow: /photos\n"
STOPPED = Failed(ErrorClass.INTERNAL, -2, "stopped", retryable=True, costs_a_try=False)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@dataclass
class Turns:
    """The gate: lets everything pass, unless `stops` says what comes of a URL."""

    stops: dict = field(default_factory=dict)
    verdicts: list = field(default_factory=list)
    answers: list = field(default_factory=list)
    delays: dict = field(default_factory=dict)
    robots_at: dict = field(default_factory=dict)

    async def admit_robots(self, url):
        await asyncio.sleep(0)
        return self.stops.get(url)

    async def is_cut_off(self, _began):
        return False

    def heard_robots(self, url, answer):
        self.answers.append((url, answer.status))
        return self.verdicts.pop(0) if self.verdicts else None

    def pace_at(self, server):
        class Pace:
            def keep_apart(_, delay_s):  # noqa: N805
                self.delays[server] = delay_s

            def robots_lead_to(_, target):  # noqa: N805
                self.robots_at[server] = target

        return Pace()


class Site:
    """Answers by path, and keeps what was asked."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def __call__(self, request):
        self.asked.append(str(request.url))
        answer = self.answers.get(request.url.host.replace(".", "_"), httpx.Response(404))
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def permission_of(tmp_path):
    clients = []

    def make(site, **politeness):
        settings = make_settings(
            tmp_path,
            politeness=politeness,
            downloader_parameters={"header": "User-Agent: my-bot/1.0 (mailto:me@my.org)"},
        )
        clients.append(httpx.AsyncClient(transport=httpx.MockTransport(site)))
        return Permission(settings, clients[-1])

    yield make
    for client in clients:
        await client.aclose()


def robots(text):
    return httpx.Response(200, text=text)


async def test_it_is_asked_once_for_many_rows_at_once_and_for_the_next_rank(permission_of):
    site = Site(a_org=robots("User-agent: *\nDisallow: /private\n"))
    permission, turns = permission_of(site), Turns()
    outcomes = await asyncio.gather(*(permission.refusal(URL, turns) for _ in range(50)))
    assert outcomes == [None] * 50
    assert await permission_of(site).refusal("http://a.org/private/1", Turns()) is not None
    assert site.asked == ["http://a.org/robots.txt"]


@pytest.mark.parametrize(
    ("mode", "refused", "asked"),
    [("obey", True, True), ("crawl_delay_only", False, True), ("ignore", False, False)],
)
async def test_each_mode_asks_and_obeys_as_it_says(permission_of, mode, refused, asked):
    site = Site(a_org=robots(DISALLOW))
    outcome = await permission_of(site, robots=mode).refusal(URL, Turns())
    assert (outcome is not None) == refused
    assert bool(site.asked) == asked
    if outcome is not None:
        assert (outcome.error_class, outcome.retryable) == (ErrorClass.ROBOTS_DISALLOWED, False)
        assert "robots.txt disallows /photos/1.jpg for my-bot" in outcome.error_msg


async def test_one_server_may_have_a_mode_of_its_own(permission_of):
    site = Site(a_org=robots(DISALLOW), b_org=robots(DISALLOW))
    permission = permission_of(site, servers={"b.org": {"robots": "ignore"}})
    assert await permission.refusal(URL, Turns()) is not None
    assert await permission.refusal("http://b.org/photos/1", Turns()) is None


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (httpx.Response(500), ErrorClass.ROBOTS_UNREACHABLE),
        (httpx.ConnectError("nobody there"), ErrorClass.CONNECT),
    ],
)
async def test_no_answer_means_not_now(permission_of, answer, word):
    outcome = await permission_of(Site(a_org=answer)).refusal(URL, Turns())
    assert outcome.error_class is word
    assert (outcome.retryable, outcome.is_over_for_now) == (True, True)


async def test_a_rank_that_is_stopped_does_not_take_silence_for_leave(permission_of):
    site = Site(a_org=robots(DISALLOW))
    robots_txt = "http://a.org/robots.txt"
    outcome = await permission_of(site).refusal(URL, Turns(stops={robots_txt: STOPPED}))
    assert outcome == STOPPED
    again = await permission_of(site).refusal(URL, Turns())
    assert again.error_class is ErrorClass.ROBOTS_DISALLOWED


async def test_stopped_between_two_hops_nothing_is_kept_either(permission_of):
    moved = httpx.Response(301, headers={"Location": "https://a.org/robots.txt"})
    site = Site(a_org=moved)
    stops = {"https://a.org/robots.txt": STOPPED}
    assert await permission_of(site).refusal(URL, Turns(stops=stops)) == STOPPED
    site.answers["a_org"] = robots(DISALLOW)
    assert await permission_of(site).refusal(URL, Turns()) is not None


async def test_an_address_that_is_not_asked_is_no_leave_for_when_it_may_be(permission_of):
    request = httpx.Request("GET", URL)
    private = PrivateAddressError("10.0.0.1 is not public", request=request)
    site = Site(a_org=private)
    outcome = await permission_of(site).refusal(URL, Turns())
    assert outcome.error_class is ErrorClass.PRIVATE_ADDRESS
    site.answers["a_org"] = robots(DISALLOW)
    again = await permission_of(site).refusal(URL, Turns())
    assert again.error_class is ErrorClass.ROBOTS_DISALLOWED


async def test_what_our_guard_refuses_is_refused_for_all_rows_of_the_server_at_once(permission_of):
    private = PrivateAddressError("10.0.0.1 is not public", request=httpx.Request("GET", URL))
    site, turns = Site(a_org=private), Turns()
    permission = permission_of(site)
    first = await permission.refusal(URL, turns)
    others = [await permission.refusal(f"http://a.org/{n}", turns) for n in range(3)]
    assert others == [first] * 3
    assert len(site.asked) == len(turns.answers) == 1


async def test_one_that_moved_to_a_group_of_another_rank_waits_for_the_next_plan(permission_of):
    moved = httpx.Response(301, headers={"Location": "http://b.org/robots.txt"})
    site = Site(a_org=moved, b_org=robots(DISALLOW))
    turns = Turns(stops={"http://b.org/robots.txt": Redirected("http://b.org/robots.txt")})
    permission = permission_of(site)
    for _ in range(3):
        outcome = await permission.refusal(URL, turns)
        assert outcome.error_class is ErrorClass.ROBOTS_UNREACHABLE
        assert (outcome.retryable, outcome.is_over_for_now) == (True, True)
    assert site.asked == ["http://a.org/robots.txt"]
    assert turns.robots_at == {"a.org": "b.org"}
    owns_both = await permission_of(site).refusal(URL, Turns())  # nothing was made up, and kept
    assert owns_both.error_class is ErrorClass.ROBOTS_DISALLOWED


async def test_a_group_that_is_stopped_is_asked_again_after_the_stop(permission_of):
    site = Site(a_org=robots(DISALLOW))
    free = Failed(ErrorClass.RATE_LIMITED, 429, "too fast", retryable=True, costs_a_try=False)
    outcome = await permission_of(site).refusal(URL, Turns(verdicts=[free]))
    assert outcome.error_class is ErrorClass.ROBOTS_DISALLOWED
    assert len(site.asked) == 2


async def test_a_crawl_delay_slows_its_group_once(permission_of):
    permission = permission_of(Site(a_org=robots("User-agent: *\nCrawl-delay: 7\n")))
    turns = Turns()
    for _ in range(3):
        assert await permission.refusal(URL, turns) is None
    assert turns.delays == permission.crawl_delays == {"a.org": 7.0}


async def test_the_longest_crawl_delay_of_a_server_holds(permission_of):
    site = Site(a_org=robots("User-agent: *\nCrawl-delay: 1\n"))
    permission, turns = permission_of(site), Turns()
    for url, delay in ((URL, 1.0), (URL.replace("http:", "https:"), 30.0), (URL, 30.0)):
        site.answers["a_org"] = robots(f"User-agent: *\nCrawl-delay: {delay}\n")
        assert await permission.refusal(url, turns) is None
        assert turns.delays == permission.crawl_delays == {"a.org": delay}


@pytest.mark.parametrize(
    ("said", "delays"), [("1e-320", {}), ("0", {}), ("3000000", {"a.org": 86_400.0})]
)
async def test_an_absurd_crawl_delay_is_none_or_a_day(permission_of, said, delays):
    permission = permission_of(Site(a_org=robots(f"User-agent: *\nCrawl-delay: {said}\n")))
    assert await permission.refusal(URL, Turns()) is None
    assert permission.crawl_delays == delays


@pytest.mark.parametrize(
    ("status", "headers", "refused"),
    [
        (200, {"X-Robots-Tag": "noai"}, True),
        (200, {"X-Robots-Tag": "other-bot: noai"}, False),
        (200, {"X-Robots-Tag": "nofollow"}, False),
        (404, {"X-Robots-Tag": "noai"}, False),  # it stays a 404
    ],
)
async def test_an_answer_may_opt_out(permission_of, status, headers, refused):
    permission = permission_of(Site())
    found = permission.opt_out(URL, Answer(status, headers, 0.1, 10))
    assert (found is not None) == refused
