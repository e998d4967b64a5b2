"""robots.txt: what it means, and one fetch for the whole job."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.admission.robots import (
    FRESH_S,
    KEPT_BYTES,
    MAX_BYTES,
    UNREACHABLE_S,
    Permit,
    RobotsAnswer,
    RobotsCache,
    Rules,
    authority_of,
    crawl_delay_s,
    evidence,
    parse,
    product_token,
    verdict,
)

SITE = "https://example.org"
AGENT = "my-bot"


def rules(text: str | bytes, status: int | None = 200) -> Rules:
    body = text.encode() if isinstance(text, str) else text
    return parse(SITE, RobotsAnswer(status, body), AGENT)


def permit(text: str | bytes, path: str = "/a.jpg", status: int | None = 200) -> Permit:
    return verdict(rules(text, status), SITE + path, AGENT)


ALL = "User-agent: *\nDisallow: /\n"
EMPTY_AGENT = "User-agent:\nDisallow: /\n"


@pytest.mark.parametrize(
    ("text", "path", "is_allowed"),
    [
        ("", "/a.jpg", True),
        (ALL, "/a.jpg", False),
        (ALL, "/robots.txt", True),
        ("User-agent: *\nDisallow:\n", "/a.jpg", True),
        (ALL + "\nUser-agent: my-bot\nAllow: /\n", "/a.jpg", True),
        (ALL + "\nUser-agent: MY-BOT/1.0\nAllow: /\n", "/a.jpg", True),
        (ALL + "\nUser-agent: my\nAllow: /\n", "/a.jpg", False),
        (ALL + "\nUser-agent: my-bot-2\nAllow: /\n", "/a.jpg", False),
        ("User-agent: other\nDisallow: /\n", "/a.jpg", True),
        ("User-agent: other\nUser-agent: my-bot\nDisallow: /\n", "/a.jpg", False),
        ("User-agent: my-bot\nUser-agent: other\nDisallow: /\n", "/a.jpg", False),
        ("User-agent: *\nDisallow: /p\nAllow: /p/open\n", "/p/open/a.jpg", True),
        ("User-agent: *\nDisallow: /p/open\nAllow: /p\n", "/p/open/a.jpg", False),
        ("User-agent: *\nDisallow: /*.jpg$\n", "/a.jpg", False),
        ("User-agent: *\nDisallow: /*.jpg$\n", "/a.jpg?x", True),
        ("User-agent: *\nDisallow: /x%41\n", "/xA", False),
        ("\ufeffUser-agent: *\nDisallow: /\n", "/a.jpg", False),
        ("User-agent: *\r\nDisallow: /\r\n", "/a.jpg", False),
        ("user-agent : * # all\ndisallow : / # of it\n", "/a.jpg", False),
        (EMPTY_AGENT, "/a.jpg", True),
        ("<html><body>User-agent: everyone, welcome</body></html>", "/a.jpg", True),
    ],
)
def test_rules(text: str, path: str, is_allowed: bool) -> None:
    assert permit(text, path) is (Permit.ALLOWED if is_allowed else Permit.DISALLOWED)


@pytest.mark.parametrize(
    ("status", "means"),
    [
        (200, Permit.DISALLOWED),
        (206, Permit.DISALLOWED),
        (301, Permit.ALLOWED),  # after five hops
        (401, Permit.ALLOWED),
        (403, Permit.ALLOWED),
        (404, Permit.ALLOWED),
        (410, Permit.ALLOWED),
        (429, Permit.UNREACHABLE),
        (500, Permit.UNREACHABLE),
        (503, Permit.UNREACHABLE),
        (None, Permit.UNREACHABLE),
    ],
)
def test_what_a_status_means(status: int | None, means: Permit) -> None:
    assert permit(ALL, status=status) is means


def test_evidence_is_a_sentence() -> None:
    assert evidence(rules(ALL), f"{SITE}/a.jpg", AGENT) == (
        "https://example.org/robots.txt disallows /a.jpg for my-bot"
    )
    assert "answers 503" in evidence(rules("", 503), f"{SITE}/a.jpg", AGENT)
    assert "does not answer" in evidence(rules("", None), f"{SITE}/a.jpg", AGENT)


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("User-agent: *\nCrawl-delay: 5\n", 5.0),
        ("User-agent: *\nCrawl-delay: 5\nUser-agent: my-bot\nCrawl-delay: 2.5\n", 2.5),
        ("User-agent: *\nCrawl-delay: soon\n", None),
        ("User-agent: *\nCrawl-delay: -3\n", None),
        ("User-agent: *\nCrawl-delay: nan\n", None),
        ("", None),
    ],
)
def test_crawl_delay(text: str, delay: float | None) -> None:
    assert crawl_delay_s(rules(text), AGENT) == delay
    assert crawl_delay_s(rules(text, 500), AGENT) is None


@pytest.mark.parametrize(
    ("user_agent", "token"),
    [
        ("my-bot/1.0 (+https://example.org/bot)", "my-bot"),
        ("My_Bot", "my_bot"),
        ("Mozilla/5.0 (compatible; FooBot/2.1; mailto:me@example.org)", "foobot"),
        ("img2dataset", "img2dataset"),
        ("https://example.org/contact", "*"),
        ("", "*"),
    ],
)
def test_the_product_token_comes_from_the_user_agent(user_agent: str, token: str) -> None:
    assert product_token(user_agent) == token


def test_an_authority_keeps_scheme_and_port() -> None:
    assert authority_of("HTTPS://me:pw@Example.org:8443/a?b#c") == "https://example.org:8443"


def test_what_is_over_500_kib_is_not_read_and_the_rest_is() -> None:
    filler = "# nothing\n" * (MAX_BYTES // 10)
    assert permit("User-agent: *\nDisallow: /\n" + filler * 3) is Permit.DISALLOWED
    late = "User-agent: *\nDisallow: /no\n" + filler + "Disallow: /\n"
    assert permit(late) is Permit.ALLOWED
    assert permit(late, "/no") is Permit.DISALLOWED


def test_a_rule_that_is_cut_in_the_middle_is_dropped() -> None:
    head = "User-agent: *\n"
    padding = "#" * (MAX_BYTES - len(head) - len("\nDisallow: /a"))
    assert permit(head + padding + "\nDisallow: /about/us\n", "/a.jpg") is Permit.ALLOWED


@pytest.mark.timeout(60)
def test_a_hostile_crowd_of_agents_and_rules_costs_little() -> None:
    agents = "".join(f"User-agent: b{number}\n" for number in range(12_000))
    paths = "".join(f"Disallow: /{number}\n" for number in range(15_000))
    assert permit(agents + "User-agent: *\n" + paths, "/77") is Permit.DISALLOWED


LINES = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([b"User-agent: *", b"User-agent: my-bot", b"user agent", b"Disallow: /"]),
    st.sampled_from([b"Disallow: %", b"Allow: *$*$", b"Disallow: http://[", b"\0"]),
    st.sampled_from([b"Crawl-delay: 1e999", b"Crawl-delay: 7", b"Request-rate: 1/0"]),
)


@given(st.lists(LINES, max_size=20), st.text(max_size=30))
def test_broken_and_binary_content_survives(lines: list[bytes], path: str) -> None:
    found = rules(b"\n".join(lines))
    assert verdict(found, f"{SITE}/{path}", AGENT) in Permit
    delay = crawl_delay_s(found, AGENT)
    assert delay is None or 0 <= delay < float("inf")


class Server:
    """Answers with what it is told, and counts."""

    def __init__(self, answer: RobotsAnswer) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def fetch(self, url: str) -> RobotsAnswer:
        self.asked.append(url)
        await asyncio.sleep(0)
        return self.answer


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def look(cache: RobotsCache, server: Server, authority: str = SITE) -> Rules:
    return asyncio.run(cache.rules(authority, server.fetch))


def test_one_fetch_for_all_tasks_ranks_and_waves(tmp_path: Path, clock: Clock) -> None:
    server = Server(RobotsAnswer(200, ALL.encode()))

    async def many(cache: RobotsCache) -> list[Rules]:
        return await asyncio.gather(*(cache.rules(SITE, server.fetch) for _ in range(20)))

    for _ in range(3):
        found = asyncio.run(many(RobotsCache(tmp_path, AGENT, clock)))
        assert all(verdict(one, f"{SITE}/a", AGENT) is Permit.DISALLOWED for one in found)
    assert server.asked == ["https://example.org/robots.txt"]


@pytest.mark.parametrize(
    ("status", "lasts_s"),
    [(200, FRESH_S), (404, FRESH_S), (503, UNREACHABLE_S), (None, UNREACHABLE_S)],
)
def test_a_copy_holds_for_a_day_a_failure_for_a_minute(
    tmp_path: Path, clock: Clock, status: int | None, lasts_s: float
) -> None:
    server = Server(RobotsAnswer(status))
    cache = RobotsCache(tmp_path, AGENT, clock)
    look(cache, server)
    clock.now += lasts_s - 1
    look(cache, server)
    assert len(server.asked) == 1
    clock.now += 2
    look(cache, server)
    assert len(server.asked) == 2


@pytest.mark.parametrize(("status", "asked"), [(200, 1), (404, 1), (429, 2), (503, 2), (None, 2)])
def test_another_wave_asks_again_where_nothing_was_learned(
    tmp_path: Path, clock: Clock, status: int | None, asked: int
) -> None:
    server = Server(RobotsAnswer(status))
    look(RobotsCache(tmp_path, AGENT, clock), server)
    clock.now += 1
    look(RobotsCache(tmp_path, AGENT, clock), server)
    assert len(server.asked) == asked


def test_a_fetch_that_raises_keeps_nothing(tmp_path: Path, clock: Clock) -> None:
    cache = RobotsCache(tmp_path, AGENT, clock)

    async def fail(_: str) -> RobotsAnswer:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        asyncio.run(cache.rules(SITE, fail))
    assert look(cache, Server(RobotsAnswer(404))).status == 404


@pytest.mark.parametrize("text", ["", "{", "[]", '{"authority": "https://example.org"}', "\0"])
def test_a_copy_that_cannot_be_read_is_fetched_again(
    tmp_path: Path, clock: Clock, text: str
) -> None:
    look(RobotsCache(tmp_path, AGENT, clock), Server(RobotsAnswer(200)))
    (copy,) = tmp_path.iterdir()
    copy.write_text(text)
    server = Server(RobotsAnswer(404))
    assert look(RobotsCache(tmp_path, AGENT, clock), server).status == 404


@pytest.mark.parametrize(
    "authority",
    ["https://../../etc", "http://[::1]:80", "https://" + "a" * 300 + ".org", "http://.."],
)
def test_no_path_is_made_of_a_name(tmp_path: Path, clock: Clock, authority: str) -> None:
    folder = tmp_path / "robots"
    look(RobotsCache(folder, AGENT, clock), Server(RobotsAnswer(200, b"")), authority)
    assert [path.name for path in tmp_path.iterdir()] == ["robots"]
    (copy,) = folder.iterdir()
    assert copy.is_file()
    server = Server(RobotsAnswer(200))
    look(RobotsCache(folder, AGENT, clock), server, authority)
    assert not server.asked


def test_memory_of_parsed_rules_is_bounded(tmp_path: Path, clock: Clock) -> None:
    cache = RobotsCache(tmp_path, AGENT, clock)
    server = Server(RobotsAnswer(200, b"#" * MAX_BYTES * 2))
    count = KEPT_BYTES // MAX_BYTES + 5
    for number in range(count):
        look(cache, server, f"http://h{number}.org")
    assert cache._bytes <= KEPT_BYTES
    assert len(cache._parsed) < count
    look(cache, server, "http://h0.org")
    assert len(server.asked) == count
