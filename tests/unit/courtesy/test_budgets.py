"""Budgets: what the table says over the defaults, and what it must not say."""

from pathlib import Path
from typing import Any

import pytest

from distributed_downloader.courtesy.budgets import (
    Backoff,
    Budget,
    budget_of,
    check_budgets,
    rules_of,
    stricter,
)
from distributed_downloader.courtesy.hours import hours_of
from distributed_downloader.errors import ConfigError
from distributed_downloader.settings import Settings
from tests.unit.conftest import make_settings


def with_servers(tmp_path: Path, servers: dict[str, Any], **more: Any) -> Settings:
    return make_settings(tmp_path, politeness={"servers": servers}, **more)


def test_unknown_servers_are_asked_gently(settings: Settings) -> None:
    budget = budget_of("example.org", ["a.example.org"], settings)
    assert (budget.rate, budget.burst, budget.connections) == (3.0, 1, 4)
    assert budget.bytes_per_s is budget.bytes_per_hour is budget.bytes_per_day is None
    assert budget.hours == ()


@pytest.mark.parametrize(
    ("server", "rate"),
    [
        ("img.example.org:8080", 9.0),
        ("img.example.org", 8.0),
        ("b.img.example.org", 8.0),
        ("other.example.org", 7.0),
        ("example.org", 6.0),
        ("cdn4.elsewhere.net", 5.0),
        ("elsewhere.net", 3.0),
        ("notexample.org", 3.0),
        ("127.0.0.9:8000", 4.0),
    ],
)
def test_the_most_specific_key_wins(tmp_path: Path, server: str, rate: float) -> None:
    rates = {
        "img.example.org:8080": 9,
        "Img.example.org": 8,
        "*.example.org": 7,
        "example.org": 6,
        "cdn*.elsewhere.net": 5,
        "127.0.0.9": 4,
    }
    settings = with_servers(tmp_path, {key: {"rate_limit": rate} for key, rate in rates.items()})
    assert budget_of("g", [server], settings).rate == rate


@pytest.mark.parametrize(
    ("key", "server", "other"),
    [
        ("example.org:443", "example.org", "a.example.org"),
        ("https://example.org:443/", "example.org", "example.org:8080"),
        ("http://example.org:8080/", "example.org:8080", "example.org"),
        ("https://example.org", "a.example.org", "org"),
        ("Bücher.example.", "xn--bcher-kva.example", "bucher.example"),
        ("*.bücher.example", "a.xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("[2001:db8:0::1]", "[2001:db8::1]", "[2001:db8::2]"),
        ("2001:db8::1", "[2001:db8::1]:8080", "[2001:db8::2]:8080"),
        ("[2001:db8:0::1]:8080", "[2001:db8::1]:8080", "[2001:db8::1]"),
    ],
)
def test_keys_are_read_as_hosts_of_urls(tmp_path: Path, key: str, server: str, other: str) -> None:
    settings = with_servers(tmp_path, {key: {"rate_limit": 0.5, "robots": "ignore"}})
    check_budgets(settings)
    assert budget_of("g", [server], settings).rate == 0.5
    assert rules_of(server, settings).robots == "ignore"
    assert budget_of("g", [other], settings).rate == 3.0


def test_a_default_port_is_closer_than_its_host(tmp_path: Path) -> None:
    rates = {"example.org:443": {"rate_limit": 1}, "example.org": {"rate_limit": 2}}
    settings = with_servers(tmp_path, rates)
    assert budget_of("g", ["example.org"], settings).rate == 1
    assert budget_of("g", ["example.org:8080"], settings).rate == 2


@pytest.mark.parametrize("key", ["*.example.org:8080", "image.jpg", "ftp://a.org", "a..org"])
def test_a_key_that_means_nobody_is_one_sentence(tmp_path: Path, key: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^politeness\.servers has '.*', which is no [^\n]*$"
    ) as no:
        with_servers(tmp_path, {key: {"rate_limit": 1}})
    assert f"'{key}'" in str(no.value)


@pytest.mark.parametrize("group", ["Museum", "Müseum", "42", "photos.jpg"])
def test_a_key_may_name_a_group_of_the_table(tmp_path: Path, group: str) -> None:
    (tmp_path / "groups.csv").write_text(f"host,group\na.org,{group}\n", encoding="utf-8")
    table = {"group_by": "table", "group_table": str(tmp_path / "groups.csv")}
    settings = make_settings(tmp_path, politeness={**table, "servers": {group: {"rate_limit": 1}}})
    check_budgets(settings)
    assert budget_of(group, ["a.org"], settings).rate == 1
    unknown = {**table, "servers": {"43": {"rate_limit": 1}}}
    with pytest.raises(ConfigError, match=r"group_table has no such group, has '43', which is no"):
        check_budgets(make_settings(tmp_path, politeness=unknown))


def test_keys_are_laid_over_each_other_setting_by_setting(tmp_path: Path) -> None:
    table = {
        "example.org": {"rate_limit": 8, "bytes_per_hour": 5e9, "robots": "ignore"},
        "a.example.org": {"rate_limit": 2, "verify_tls": False, "opt_out_headers": ["noai"]},
    }
    settings = with_servers(tmp_path, table)
    budget = budget_of("example.org", ["a.example.org"], settings)
    assert (budget.rate, budget.bytes_per_hour) == (2, 5e9)
    rules = rules_of("a.example.org", settings)
    assert (rules.robots, rules.verify_tls, rules.opt_out_headers) == ("ignore", False, ("noai",))
    assert rules_of("elsewhere.org", settings).robots == "obey"


def test_a_group_takes_the_strictest_of_its_servers(tmp_path: Path) -> None:
    table = {
        "a.org": {"rate_limit": 20, "connections": 2, "bytes_per_s": 100, "hours": "20-6"},
        "b.org": {"rate_limit": 10, "connections": 9, "burst": 5, "hours": "4-22"},
    }
    budget = budget_of("g", ["a.org", "b.org"], with_servers(tmp_path, table))
    assert (budget.rate, budget.connections, budget.burst) == (10, 2, 1)
    assert budget.bytes_per_s == 100
    assert budget.hours == ((4 * 3600, 6 * 3600), (20 * 3600, 22 * 3600))


def test_a_key_may_name_the_group(tmp_path: Path) -> None:
    settings = with_servers(tmp_path, {"10.1.2.3": {"rate_limit": 1}})
    assert budget_of("10.1.2.3", ["a.org", "b.net"], settings).rate == 1


def test_rates_are_multiplied_never_above_the_limit(tmp_path: Path) -> None:
    def rate(multiplier: float) -> float:
        downloader = {"rate_multiplier": multiplier, "default_rate_limit": 8}
        return budget_of(
            "g", ["a.org"], make_settings(tmp_path, downloader_parameters=downloader)
        ).rate

    assert rate(0.5) == 4
    assert rate(1.0) == rate(3.0) == 8


def test_crawl_delay_is_a_floor_on_the_pace(tmp_path: Path) -> None:
    settings = with_servers(tmp_path, {"free.org": {"robots": "ignore"}, "a.org": {"burst": 9}})
    slow = budget_of("g", ["a.org", "b.org"], settings, {"a.org": 10.0, "b.org": 20.0})
    assert (slow.rate, slow.burst) == (pytest.approx(1 / 20), 1)
    assert slow.min_rate <= slow.rate
    assert budget_of("g", ["a.org"], settings, {"a.org": 0.1}).rate == 3.0
    assert budget_of("g", ["free.org"], settings, {"free.org": 10.0}).rate == 3.0


@pytest.mark.parametrize(("rate", "delay_s"), [(3.0, 1.0), (1.0, 1.0), (0.5, 1.0), (0.001, 600.0)])
def test_a_crawl_delay_ends_bursts_and_raises_no_rate(rate: float, delay_s: float) -> None:
    backoff = Backoff(max_s=5.0)
    slow = Budget("g", rate, burst=5, backoff=backoff).with_crawl_delay(delay_s)
    assert (slow.rate, slow.burst) == (min(rate, 1 / delay_s), 1)


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("20-6", ((72_000, 86_400), (0, 21_600))),
        ("9-17", ((32_400, 61_200),)),
        ("22:30-24:00", ((81_000, 86_400),)),
        ("23-0", ((82_800, 86_400),)),
        ("0-24", ((0, 86_400),)),
    ],
)
def test_hours(text: str, spans: tuple[tuple[float, float], ...]) -> None:
    assert hours_of(text) == spans


@pytest.mark.parametrize("text", ["6-6", "night", "25-26", "", "5", "9-17-20"])
def test_hours_that_are_no_part_of_a_day(text: str) -> None:
    with pytest.raises(ConfigError, match="no part of a day"):
        hours_of(text)


@pytest.mark.parametrize(
    ("politeness", "said"),
    [
        (
            {"servers": {"a.org": {"min_rate": 5, "rate_limit": 2}}},
            "min_rate 5 is over rate_limit 2",
        ),
        (
            {"servers": {"a.org": {"bytes_per_hour": 9, "bytes_per_day": 8}}},
            "bytes_per_hour 9 is over bytes_per_day 8",
        ),
        ({"servers": {"a.org": {"burst": 2}, "A.ORG": {"burst": 3}}}, "'a.org' and 'A.ORG'"),
        (
            {"servers": {"a.org:80": {"burst": 2}, "https://a.org:443": {"burst": 3}}},
            "'a.org:80' and 'https://a.org:443', which are one server",
        ),
        ({"servers": {"a.org": {"hours": "6-6"}}}, "'6-6', which is no part of a day"),
        ({"backoff": {"first_s": 100, "max_s": 10}}, "first_s 100.* is over max_s 10"),
    ],
)
def test_a_table_that_contradicts_itself_is_one_sentence(
    tmp_path: Path, politeness: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        check_budgets(make_settings(tmp_path, politeness=politeness))


def test_hours_that_never_meet_are_one_sentence(tmp_path: Path) -> None:
    settings = with_servers(tmp_path, {"a.org": {"hours": "1-3"}, "b.org": {"hours": "5-7"}})
    with pytest.raises(ConfigError, match="never meet"):
        budget_of("g", ["a.org", "b.org"], settings)


def test_hours_of_one_domain_that_never_meet_are_told_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    table = {"a.x.org": {"hours": "1-3"}, "*.x.org": {"hours": "5-7"}, "y.org": {"hours": "5-7"}}
    with pytest.raises(ConfigError, match=r"never meet \(1:00-3:00 and 5:00-7:00\)"):
        check_budgets(with_servers(tmp_path, table))
    check_budgets(with_servers(tmp_path, {key: table[key] for key in ("a.x.org", "y.org")}))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (None, "Cannot read"),
        ("host,group\na.org,one\na.org,two\n", "gives a.org two groups"),
        ("server,group\na.org,one\n", "needs the columns host and group"),
    ],
)
def test_a_table_of_groups_is_read_before_anything_is_asked(
    tmp_path: Path, lines: str | None, said: str
) -> None:
    table = tmp_path / "groups.csv"
    if lines is not None:
        table.write_text(lines)
    politeness = {"group_by": "table", "group_table": str(table)}
    with pytest.raises(ConfigError, match=said):
        check_budgets(make_settings(tmp_path, politeness=politeness))


def test_the_stricter_of_two_budgets_holds_in_every_dimension() -> None:
    one = Budget("g", 10.0, burst=1, connections=8, bytes_per_s=5.0, hours=((0, 50),))
    other = Budget("h", 2.0, burst=4, connections=2, bytes_per_day=9.0, hours=((40, 90),))
    assert stricter(one, other) == Budget(
        "g",
        2.0,
        burst=1,
        connections=2,
        bytes_per_s=5.0,
        bytes_per_day=9.0,
        hours=((40, 50),),
        min_rate=0.1,
    )


def test_good_settings_pass(tmp_path: Path) -> None:
    table = {"a.org": {"bytes_per_hour": 5e9, "bytes_per_day": 24e9, "hours": "20-6"}}
    check_budgets(with_servers(tmp_path, table))
