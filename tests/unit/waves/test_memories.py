"""What outlives a rank, and what a wave that was killed still proves."""

from pathlib import Path

import polars as pl

from distributed_downloader.courtesy.budgets import Budget
from distributed_downloader.courtesy.group_pace import GroupPace, Memory
from distributed_downloader.tables import LEARNED
from distributed_downloader.waves.left import LEARNED_NAME
from distributed_downloader.waves.memories import (
    load_memories,
    memory_file,
    read_audits,
    save_memories,
)
from tests.unit.conftest import make_settings


def test_a_file_brings_back_memories_and_audits(tmp_path: Path) -> None:
    paths = make_settings(tmp_path).paths
    pace = GroupPace(Budget("a.org", 10.0))
    memory = Memory("a.org", written=1.0, rate=2.0, refused=3.0, hour_bytes=((1, 2),))
    save_memories(memory_file(paths.wave(0), 1), {"a.org": memory}, [pace.audit(1)])
    assert load_memories(paths) == {"a.org": memory}
    (audit,) = read_audits(paths.wave(0)).iter_rows(named=True)
    assert (audit["group"], audit["rank"], audit["limit"]) == ("a.org", 1, 10.0)


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
