"""A wave's plan: what is left, at which rates, written for the ranks, and waited for."""

import io
import re
import time
from types import SimpleNamespace

import polars as pl
import pytest

from distributed_downloader.courtesy.group_pace import Memory
from distributed_downloader.durable import read_json, write_json
from distributed_downloader.errors import ConfigError
from distributed_downloader.paths import Batch
from distributed_downloader.waves import planning
from distributed_downloader.waves.memories import memory_file, save_memories
from distributed_downloader.waves.orders import duty_of
from distributed_downloader.waves.planning import (
    plan_next_wave,
    wait_for_turn,
    write_plan,
)
from tests.unit.batches import elsewhere, partition, profile, store
from tests.unit.conftest import make_settings

A, B = Batch("a.org", 0), Batch("b.org", 0)
SMALL = Batch("_small-12ab", 0)
NOW = 1_700_000_000.0


def urls(server, count):
    return [f"http://{server}/{number}" for number in range(count)]


def groups_of(plan):
    return {group.group: group for rank in plan.ranks for group in rank}


def test_each_group_of_a_mixed_batch_is_planned_with_its_own_rows_and_budget(tmp_path):
    servers = {"img.two.org": {"rate_limit": 0.5, "connections": 1}}
    settings = make_settings(tmp_path, politeness={"servers": servers})
    rows = [*urls("one.org", 2), *urls("img.two.org", 3), *urls("three.org", 1)]
    partition(settings.paths, {SMALL: rows})
    profile(settings.paths)
    groups = groups_of(plan_next_wave(settings))
    assert {name: group.rows for name, group in groups.items()} == {
        "one.org": 2,
        "two.org": 3,
        "three.org": 1,
    }
    assert groups["two.org"].rate_limit == 0.5
    assert groups["one.org"].rate_limit == 3.0
    assert groups["two.org"].servers == {SMALL: ["img.two.org"]}


def test_a_redirects_target_has_its_own_budget_not_that_of_where_it_was_listed(tmp_path):
    servers = {"a.org": {"rate_limit": 50}, "img.cdn.net": {"rate_limit": 0.25}}
    settings = make_settings(tmp_path, politeness={"servers": servers})
    rows = urls("a.org", 2)
    partition(settings.paths, {A: rows})
    profile(settings.paths, {"server_name": "a.org", "rate_limit": 50.0})
    store(settings.paths, A, {rows[0]: elsewhere("http://img.cdn.net/1")})
    plan = plan_next_wave(settings)
    groups = groups_of(plan)
    assert (groups["a.org"].rate_limit, groups["cdn.net"].rate_limit) == (50, 0.25)
    write_plan(settings, 0, plan)
    schedule = pl.read_parquet(settings.paths.wave(0) / "schedule.parquet")
    rows = schedule.select("server_name", "group", "servers", "rows").sort("group").rows()
    assert rows == [("a.org", "a.org", ["a.org"], 1), ("a.org", "cdn.net", ["img.cdn.net"], 1)]


def test_an_edited_rate_in_the_config_holds_at_the_next_plan(tmp_path):
    rows = urls("a.org", 2)
    limits = {"rate_limit": 3.0, "configured_limit": 3.0}
    for rate in (9.0, 1.0):
        settings = make_settings(tmp_path, downloader_parameters={"default_rate_limit": rate})
        partition(settings.paths, {A: rows})
        profile(settings.paths, {"server_name": "a.org", **limits})
        assert groups_of(plan_next_wave(settings))["a.org"].rate_limit == rate


def test_a_badly_edited_table_ends_the_plan_with_a_sentence(settings):
    partition(settings.paths, {A: urls("a.org", 1)})
    profile(settings.paths, {"server_name": "a.org"})
    table = settings.paths.profiles_table
    table.write_text(table.read_text().replace("3.0", "fast"))
    with pytest.raises(ConfigError, match=r"profiles.csv, line 2: rate_limit is 'fast'"):
        plan_next_wave(settings)


def test_ignored_servers_and_finished_rows_are_in_no_plan(settings):
    partition(settings.paths, {A: urls("a.org", 2), B: urls("b.org", 2)})
    profile(settings.paths)
    settings.paths.ignored_table.write_text("b.org\n")
    store(settings.paths, A, {"http://a.org/0": None})
    groups = groups_of(plan_next_wave(settings))
    assert {name: group.rows for name, group in groups.items()} == {"a.org": 1}


def test_nothing_left_is_a_plan_too(settings):
    partition(settings.paths, {A: urls("a.org", 1)})
    profile(settings.paths)
    store(settings.paths, A, {"http://a.org/0": None})
    write_plan(settings, 0, plan_next_wave(settings))
    plan = read_json(settings.paths.wave(0) / "plan.json")
    assert (plan["ranks"], plan["nodes"], plan["rows"], plan["bound_group"]) == (1, 1, 0, None)
    assert pl.read_parquet(settings.paths.wave(0) / "schedule.parquet").is_empty()


def test_what_waves_learned_is_planned_with(settings):
    partition(settings.paths, {A: urls("a.org", 10)})
    profile(settings.paths, {"server_name": "a.org", "mean_bytes": 500.0})
    learned = Memory("a.org", blocked_until=planning.time.time() + 1000, rate=2.0, refused=2.5)
    save_memories(memory_file(settings.paths.wave(0), 0), {"a.org": learned})
    group = groups_of(plan_next_wave(settings))["a.org"]
    assert (group.rate_limit, group.rate, group.mean_bytes) == (3.0, 2.0, 500.0)
    assert group.blocked_s == pytest.approx(1000, abs=5)


PENDING = {"pending": 4, "free_at": 0, "written": NOW}
RETRYABLE = {"pending": 0, "free_at": 0, "written": NOW}


@pytest.mark.parametrize(
    ("left", "waves_before", "waited"),
    [
        (None, 0, []),
        (PENDING, 0, []),
        (PENDING, 3, []),
        ({**PENDING, "free_at": NOW + 60}, 0, [60]),
        ({**PENDING, "free_at": NOW - 60}, 0, []),
        ({**PENDING, "free_at": NOW + 60, "cut_off": True}, 0, []),  # the network may be back
        ({**PENDING, "free_at": NOW + 60, "cut_off": True}, 1, [60]),
        (RETRYABLE, 0, []),  # a new run asks at once
        (RETRYABLE, 1, [10]),
        (RETRYABLE, 3, [40]),
        (RETRYABLE, 99, [900]),
        (RETRYABLE, 9999, [900]),
        ({**RETRYABLE, "free_at": NOW + 20}, 1, [20]),
        ({**RETRYABLE, "written": NOW + 86_400}, 1, [900]),  # the calendar was set back
    ],
)
def test_how_long_a_plan_waits_for_its_turn(tmp_path, monkeypatch, left, waves_before, waited):
    settings = make_settings(
        tmp_path, politeness={"wait_s": 900, "backoff": {"first_s": 10, "factor": 2}}
    )
    if left is not None:
        write_json(settings.paths.left, left)
    monkeypatch.setattr(planning.time, "time", lambda: NOW)
    slept = []
    wait_for_turn(settings, waves_before, sleep=slept.append)
    assert slept == waited


def test_a_damaged_file_of_what_is_left_makes_nobody_wait(settings):
    settings.paths.root.mkdir()
    settings.paths.left.write_text("")
    wait_for_turn(settings, 0, sleep=pytest.fail)


def test_the_plan_says_what_rules_cost_which_key_changes_it_and_who_rests(tmp_path):
    settings = make_settings(tmp_path)
    partition(settings.paths, {A: urls("a.org", 10), B: urls("b.org", 10)})
    sampled = {"total_rows": 10, "success_count": 1, "error_count": 1, "rate_limit": 3.0}
    profile(settings.paths, {"server_name": "a.org", "disallowed_count": 1, **sampled})
    rests = Memory("b.org", blocked_until=time.time() + 500)
    save_memories(memory_file(settings.paths.wave(0), 0), {"b.org": rests})
    plan, told = plan_next_wave(settings), io.StringIO()
    write_plan(settings, 1, plan)
    planning.tell_plan(plan, told)
    planning.tell_costs(planning.read_profiles(settings.paths), told)
    (cost,) = read_json(settings.paths.wave(1) / "plan.json")["policy"]
    assert (cost["server"], cost["rows"], cost["setting"]) == ("a.org", 5, "politeness.robots")
    assert "a.org: about 5 of 10 rows, robots.txt says no to 1 of 2 samples" in told.getvalue()
    assert re.search(r"b\.org rests until 20\d\d-.* UTC: 10 rows left", told.getvalue())


def test_a_table_of_groups_makes_one_group_of_the_plan(tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("host,group\na.org,museum\nb.org,museum\n")
    politeness = {
        "group_by": "table",
        "group_table": str(table),
        "servers": {"b.org": {"rate_limit": 0.5}, "museum": {"connections": 2}},
    }
    settings = make_settings(tmp_path, politeness=politeness)
    partition(settings.paths, {A: urls("a.org", 2), B: urls("b.org", 3)})
    profile(settings.paths)
    ((group,),) = plan_next_wave(settings).ranks
    assert (group.group, group.rows, group.rate_limit) == ("museum", 5, 0.5)


def test_servers_at_one_address_are_looked_up_for_the_plan(tmp_path):
    settings = make_settings(
        tmp_path,
        politeness={"group_by": "address"},
        hosts={"a.org": "127.0.0.9", "cdn.net": "127.0.0.9", "b.org": "127.0.0.8"},
    )
    rows = urls("a.org", 2)
    partition(settings.paths, {A: rows, B: urls("b.org", 3)})
    profile(settings.paths)
    store(settings.paths, A, {rows[0]: elsewhere("http://cdn.net/1")})
    groups = groups_of(plan_next_wave(settings))
    assert {name: group.rows for name, group in groups.items()} == {"127.0.0.9": 2, "127.0.0.8": 3}


@pytest.mark.parametrize(
    ("robots", "written", "limit"),
    [
        ("obey", 0.1, 0.1),
        ("crawl_delay_only", 0.1, 0.1),
        ("ignore", 0.1, 3.0),  # since profile ran
        ("obey", 2.0, 0.1),  # a person may not raise it above what its owner asks for
    ],
)
def test_a_crawl_delay_that_profile_met_holds(tmp_path, robots, written, limit):
    settings = make_settings(tmp_path, politeness={"robots": robots})
    partition(settings.paths, {A: urls("a.org", 2)})
    measured = {"crawl_delay_s": 10.0, "configured_limit": 3.0, "measured_limit": 0.1}
    measured |= {"latency_s": 0.1, "rate_limit": written}
    profile(settings.paths, {"server_name": "a.org", **measured})
    assert groups_of(plan_next_wave(settings))["a.org"].rate_limit == pytest.approx(limit)


def test_what_a_person_allows_holds_for_the_group_also_where_no_rows_are_left(settings):
    image, cdn = Batch("img.a.org", 0), Batch("cdn.net", 0)
    partition(settings.paths, {A: urls("a.org", 1), image: urls("img.a.org", 1), cdn: []})
    edited = {"rate_limit": 0.25, "configured_limit": 3.0}
    profile(
        settings.paths,
        {"server_name": "img.a.org", **edited},
        {"server_name": "cdn.net", **edited},
        {"server_name": "a.org", "rate_limit": 3.0, "configured_limit": 3.0},
    )
    store(settings.paths, image, {"http://img.a.org/0": None})
    plan = plan_next_wave(settings)
    assert groups_of(plan)["a.org"].rate_limit == 0.25
    write_plan(settings, 0, plan)
    limits = read_json(settings.paths.wave(0) / "plan.json")["edited_limits"]
    assert limits == {"a.org": 0.25, "cdn.net": 0.25}  # redirects may lead there


def test_the_plan_gives_a_group_to_the_rank_that_asks_for_its_robots_txt(tmp_path):
    settings = make_settings(tmp_path, downloader_parameters={"workers_per_node": 2})
    third = Batch("c.org", 0)
    partition(settings.paths, {b: urls(b.server_name, 3) for b in (A, B, third)})
    profile(settings.paths)
    learned = Memory("a.org", servers=("a.org",), robots_at=("www.c.org", "rules.net"))
    save_memories(memory_file(settings.paths.wave(0), 0), {"a.org": learned})
    plan = plan_next_wave(settings)
    assert [sorted(g.group for g in rank) for rank in plan.ranks] == [["a.org", "c.org"], ["b.org"]]
    write_plan(settings, 1, plan)
    duty = duty_of(settings, 1, SimpleNamespace(rank=1, size=2), lambda: None)
    owners = {"a.org": 0, "b.org": 1, "c.org": 0, "rules.net": 0}
    assert {group: duty.ownership.owners[group] for group in owners} == owners


def test_an_anonymous_plan_refuses_what_is_listed_not_what_a_redirect_leads_to(tmp_path):
    private = {"allow_private_addresses": True}
    agent = {"header": "User-Agent: nobody"}
    settings = make_settings(
        tmp_path,
        politeness=private,
        downloader_parameters=agent,
        hosts={"a.org": "127.0.0.1", "cdn.net": "8.8.8.8"},
    )
    rows = urls("a.org", 2)
    partition(settings.paths, {A: rows})
    profile(settings.paths)
    store(settings.paths, A, {rows[0]: elsewhere("http://cdn.net/1")})
    assert set(groups_of(plan_next_wave(settings))) == {"a.org", "cdn.net"}
    partition(settings.paths, {A: rows, Batch("cdn.net", 0): urls("cdn.net", 1)})
    with pytest.raises(ConfigError, match=r"cdn\.net"):
        plan_next_wave(settings)
