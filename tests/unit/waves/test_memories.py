"""What outlives a rank, and what a wave that was killed still proves."""

import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from distributed_downloader.courtesy.backoff import CUT_OFF
from distributed_downloader.courtesy.budgets import Budget
from distributed_downloader.courtesy.group_pace import GroupPace, Memory
from distributed_downloader.durable import write_parquet
from distributed_downloader.tables import LEARNED
from distributed_downloader.waves.left import LEARNED_NAME
from distributed_downloader.waves.memories import (
    PROFILE_FOLDER,
    SUM_NAME,
    blocks_of,
    load_memories,
    memory_file,
    profile_file,
    read_audits,
    save_memories,
)
from tests.unit.conftest import make_settings


def test_a_file_brings_back_memories_and_audits(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    paths = settings.paths
    pace = GroupPace(Budget("a.org", 10.0))
    memory = Memory("a.org", written=1.0, rate=2.0, refused=3.0, hour_bytes=((1, 2),))
    save_memories(memory_file(paths.wave(0), 1), {"a.org": memory}, [pace.audit(1)])
    assert load_memories(settings) == {"a.org": memory}
    (audit,) = read_audits(paths.wave(0)).iter_rows(named=True)
    assert (audit["group"], audit["rank"], audit["limit"]) == ("a.org", 1, 10.0)


def test_a_block_holds_for_its_servers_when_they_are_grouped_in_another_way(tmp_path: Path) -> None:
    by_domain = make_settings(tmp_path)
    by_host = make_settings(tmp_path, politeness={"group_by": "host"})
    servers = ("a.museum.org", "b.museum.org:8080")
    blocked = Memory("museum.org", written=1.0, blocked_until=9e9, refused_until=9e9, cause="429")
    blocked = replace(blocked, servers=servers, rate=2.0, refused=3.0, day_bytes=((1, 5),))
    save_memories(memory_file(by_domain.paths.wave(0), 0), {"museum.org": blocked})

    apart = load_memories(by_host)
    assert set(apart) == {"a.museum.org", "b.museum.org"}
    assert {memory.refused_until for memory in apart.values()} == {9e9}
    assert apart["b.museum.org"].servers == servers[1:]
    assert set(blocks_of(apart)) == set(apart)

    save_memories(memory_file(by_host.paths.wave(1), 0), apart)
    again = load_memories(by_domain)["museum.org"]
    assert (again.refused_until, again.cause, again.rate) == (9e9, "429", 2.0)
    assert again.servers == servers


def test_what_profile_learns_when_it_runs_again_holds(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    wave = {"a.org": Memory("a.org", written=1.0), "b.org": Memory("b.org", written=1.0, rate=2.0)}
    save_memories(settings.paths.wave(3) / SUM_NAME, wave)
    blocked = Memory("a.org", written=2.0, blocked_until=9e9, refused_until=9e9, cause="429")
    save_memories(profile_file(settings.paths), {"a.org": blocked})
    assert load_memories(settings) == {"a.org": blocked, "b.org": wave["b.org"]}


def test_each_start_of_profile_proves_something(tmp_path: Path) -> None:
    paths = make_settings(tmp_path).paths
    for group in ("a.org", "b.org"):
        audit = GroupPace(Budget(group, 10.0)).audit(0)
        save_memories(profile_file(paths), {group: Memory(group)}, [audit])
    assert read_audits(paths.schedules / PROFILE_FOLDER)["group"].to_list() == ["a.org", "b.org"]


def test_a_rest_for_want_of_a_network_is_told_and_ends_with_a_newer_word(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    cut = Memory("a.org", written=1.0, cut_until=9e9, silent_s=40.0, witness="a.org", answered=0.5)
    save_memories(memory_file(settings.paths.wave(0), 0), {"a.org": cut})
    block = blocks_of(load_memories(settings))["a.org"]
    assert (block.blocked_until, block.cause) == (9e9, CUT_OFF)
    answered = Memory("a.org", written=2.0, witness="a.org", answered=2.0)
    save_memories(memory_file(settings.paths.wave(1), 0), {"a.org": answered})
    assert blocks_of(load_memories(settings)) == {}


def test_bytes_of_groups_that_became_one_add_up(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    apart = {
        server: Memory(server, written=1.0, servers=(server,), hour_bytes=((1, 5), (2, size)))
        for server, size in (("a.museum.org", 1), ("b.museum.org", 2))
    }
    save_memories(memory_file(settings.paths.wave(0), 0), apart)
    assert load_memories(settings)["museum.org"].hour_bytes == ((1, 10), (2, 3))


def test_a_wave_that_ended_is_judged_by_what_it_wrote_in_the_end(tmp_path: Path) -> None:
    folder = make_settings(tmp_path).paths.wave(0)
    for rank in range(2):
        group = f"{rank}.org"
        audit = GroupPace(Budget(group, 10.0)).audit(rank)
        save_memories(memory_file(folder, rank), {group: Memory(group)}, [audit])
    assert read_audits(folder)["group"].to_list() == ["0.org", "1.org"]
    learned = pl.DataFrame([{"group": "c.org", "requests": 7}], LEARNED)
    learned.write_parquet(folder / LEARNED_NAME)
    assert read_audits(folder).equals(learned)


def test_nothing_is_proven_where_nothing_was_written(tmp_path: Path) -> None:
    folder = make_settings(tmp_path).paths.wave(0)
    assert read_audits(folder).schema == LEARNED
    save_memories(memory_file(folder, 0), {"a.org": Memory("a.org")})
    assert read_audits(folder).is_empty()


def test_of_a_wave_whose_table_is_damaged_counts_what_it_saved_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_settings(tmp_path).paths.wave(0)
    audit = GroupPace(Budget("a.org", 10.0)).audit(0)
    save_memories(memory_file(folder, 0), {"a.org": Memory("a.org")}, [audit])
    learned = folder / LEARNED_NAME
    write_parquet(learned, pl.DataFrame([{"group": "b.org"}], LEARNED))
    for size in (300, 0):
        os.truncate(learned, size)
        assert read_audits(folder)["group"].to_list() == ["a.org"]
    assert f"{learned} is damaged" in caplog.text
