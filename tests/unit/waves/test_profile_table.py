"""profiles.csv: what was measured, what the config says today, and what a person wrote."""

import pytest

from distributed_downloader.courtesy.budgets import Budget
from distributed_downloader.errors import ConfigError
from distributed_downloader.tables import PROFILES
from distributed_downloader.waves.profile_table import group_limit, is_edited, read_profiles
from distributed_downloader.waves.profiles import Sampled, limits_of
from tests.unit.batches import profile

HEADER = "server_name,rate_limit,success_count\n"


def server(**values):
    usual = {"rate_limit": 3.0, "configured_limit": 3.0, "success_count": 1}
    return {**dict.fromkeys(PROFILES), **usual, **values}


SLUGGISH = server(rate_limit=2.0, measured_limit=2.0, latency_s=2.0)
DEAD = server(rate_limit=1.0, measured_limit=1.0, success_count=0)


@pytest.mark.parametrize(
    ("today", "servers", "limit"),
    [
        (3.0, [], 3.0),
        (3.0, [server()], 3.0),
        (9.0, [server()], 9.0),  # the config was raised
        (1.0, [server()], 1.0),  # or lowered
        (9.0, [SLUGGISH], 2.0),  # 4 connections of 2 s each
        (9.0, [SLUGGISH, server()], 9.0),  # the liveliest
        (9.0, [DEAD], 1.0),  # gently at first
        (9.0, [server(rate_limit=0.5)], 0.5),  # a person lowered it
        (9.0, [server(rate_limit=0.5), server()], 0.5),  # for the whole group
        (3.0, [server(rate_limit=50.0)], 3.0),  # and may not raise it above the config
        (9.0, [{**SLUGGISH, "rate_limit": 6.0}], 6.0),  # but above what was measured
        (9.0, [server(configured_limit=None)], 3.0),  # a table of before it said so
        (9.0, [server(rate_limit=None)], 9.0),
    ],
)
def test_the_limit_of_a_group(today, servers, limit):
    budget = Budget("a.org", today, connections=4)
    assert group_limit(budget, servers) == pytest.approx(limit)


@pytest.mark.parametrize(("rate", "limit"), [(1.0, 9.0), (0.5, 0.5)])
def test_a_dead_server_is_asked_gently_until_its_group_answers_a_person_is_heeded(rate, limit):
    servers = [{**DEAD, "rate_limit": rate}]
    assert group_limit(Budget("a.org", 9.0), servers, is_alive=True) == limit


@pytest.mark.parametrize(
    ("configured", "crawl_delay_s"),
    [(3.0, 3.0), (3.0, 60.0), (3.0, 86_400.0), (0.0123456789, None)],
)
def test_what_profile_wrote_is_no_edit_however_slow(settings, configured, crawl_delay_s):
    limits = limits_of(Budget("a.org", configured), Sampled(), crawl_delay_s)
    settings.paths.root.mkdir()
    profile(settings.paths, {"server_name": "a.org", **limits})
    assert not is_edited(read_profiles(settings.paths)["a.org"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HEADER + "a.org,fast,1\n", r"line 2: rate_limit is 'fast', not a number above 0: mend"),
        (HEADER + "a.org,1,1\nb.org,-2,1\n", r"line 3: rate_limit is '-2', not a number above 0"),
        (HEADER + "a.org,0,1\n", r"rate_limit is '0', .* belongs into ignored\.csv"),
        (HEADER + "a.org,nan,1\n", r"rate_limit is 'nan'"),
        (HEADER + "a.org,1,many\n", r"line 2: success_count is 'many', not a number:"),
        (HEADER + ",1,1\n", r"line 2 names no server"),
        (HEADER + "a.org,1,1\na.org,2,1\n", r"line 3 repeats a\.org"),
        (HEADER + "a.org,1,1,9\n", r"line 2 has not as many cells as the first line"),
        (HEADER + "a.org\n", r"line 2 has not as many cells"),
        (HEADER.replace(",", ";"), r"has no column server_name; its first line is 'server_name;"),
        ("", r"has no column server_name; its first line is ''"),
        (HEADER + '"a.org,1,1\n', r"Cannot read .*unexpected end of data"),
    ],
)
def test_a_badly_edited_table_is_one_sentence_with_the_line_and_the_way_out(
    settings, text, sentence
):
    settings.paths.root.mkdir()
    settings.paths.profiles_table.write_text(text)
    with pytest.raises(ConfigError, match=sentence) as raised:
        read_profiles(settings.paths)
    told = str(raised.value)
    assert told.startswith((str(settings.paths.profiles_table), "Cannot read "))
    assert told.endswith("delete the file to have the servers looked at again.")
    assert "\n" not in told


def test_what_spreadsheets_make_of_it_is_read_as_it_was_meant(settings):
    settings.paths.root.mkdir()
    table = "\ufeff\r\n" + HEADER.replace("\n", "\r\n") + '"a.org", 2.50 ,1.0\r\nb.org,,\r\n'
    settings.paths.profiles_table.write_text(table, newline="")
    profiles = read_profiles(settings.paths)
    assert (profiles["a.org"]["rate_limit"], profiles["a.org"]["success_count"]) == (2.5, 1)
    assert profiles["b.org"]["rate_limit"] is None
