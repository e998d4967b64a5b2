import random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distributed_downloader.checksums import KEY, PREFIX, is_whole, write_sealed

TABLE = pl.DataFrame({"uuid": [f"uuid-{n}" for n in range(200)], "index": range(200)})


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    file = tmp_path_factory.mktemp("table") / "table.parquet"
    write_sealed(file, TABLE, {"absorbed": '["part-0-0-0"]'})
    return file


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame])
def test_a_table_with_its_checksum_is_read_as_any_other(tmp_path, kind):
    file = tmp_path / "table.parquet"
    write_sealed(file, TABLE if kind is pl.DataFrame else TABLE.lazy(), {"next_shard": "3"})
    assert pl.read_parquet(file).equals(TABLE)
    assert pl.read_parquet_metadata(file)["next_shard"] == "3"
    assert is_whole(file)


@hypothesis_settings(max_examples=150)
@given(data=st.data())
def test_no_changed_bit_goes_unseen(table, tmp_path_factory, data):
    content = bytearray(table.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    changed = tmp_path_factory.mktemp("changed") / "table.parquet"
    changed.write_bytes(content)
    assert not is_whole(changed)


def test_no_changed_bit_of_the_checksum_itself_goes_unseen(table, tmp_path):
    content = table.read_bytes()
    changed = tmp_path / "table.parquet"
    for mark in (KEY.encode(), PREFIX.encode()):
        start = content.rindex(mark)
        for at in range(start, start + len(mark)):
            flipped = bytes([content[at] ^ random.Random(at).randrange(1, 256)])
            changed.write_bytes(content[:at] + flipped + content[at + 1 :])
            assert not is_whole(changed), (mark, at)


@pytest.mark.parametrize("kept", [0, 1, 7, 11, 100, -9, -8, -1])
def test_a_table_that_was_cut_is_not_whole(table, tmp_path, kept):
    cut = tmp_path / "table.parquet"
    cut.write_bytes(table.read_bytes()[:kept])
    assert not is_whole(cut)


def test_a_table_of_others_is_taken_as_it_is(tmp_path):
    file = tmp_path / "table.parquet"
    TABLE.write_parquet(file)
    assert is_whole(file)


def test_a_file_that_is_gone_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        is_whole(tmp_path / "none.parquet")
