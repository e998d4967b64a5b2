import os

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.errors import ConfigError, StorageError
from distributed_downloader.exports import targets
from distributed_downloader.exports.targets import MAX_STEM, Target, file_stem, plain_name


@pytest.fixture(params=["local", "file", "memory"])
def target(request, tmp_path):
    """The same folder as a path, as an address, and far away."""
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return Target("memory://bucket/exports")
    return Target(f"{'file://' if request.param == 'file' else ''}{tmp_path}/exports")


def read(target, name):
    with fsspec.open(f"{target.address}/{name}") as file:
        return file.read()


def test_a_file_is_there_when_the_block_ends_and_not_before(target):
    with target.whole("a.tar") as sink:
        sink.write([b"one ", memoryview(b"two")])
        sink.write([])
        assert target.size("a.tar") is None
    assert read(target, "a.tar") == b"one two"
    assert target.size("a.tar") == 7


def test_a_file_that_was_not_finished_leaves_the_old_one(target):
    target.write({"a.tar": b"old"})
    with pytest.raises(ZeroDivisionError), target.whole("a.tar") as sink:
        sink.write([b"new"])
        raise ZeroDivisionError
    assert read(target, "a.tar") == b"old"


def test_more_pieces_than_one_call_takes_arrive_in_order(target):
    pieces = [b"%d " % number for number in range(3 * targets.MAX_PIECES + 5)]
    with target.whole("a") as sink:
        sink.write(pieces)
    assert read(target, "a") == b"".join(pieces)


def test_what_a_write_left_over_is_written_too(tmp_path, monkeypatch):
    whole = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, pieces: whole(fd, [b"".join(pieces)[:5]]))
    with Target(tmp_path).whole("a") as sink:
        sink.write([b"abc", b"defgh", b"ij"])
    assert (tmp_path / "a").read_bytes() == b"abcdefghij"


def test_files_and_folders_are_removed_and_may_be_absent(target):
    target.write({"folder/a": b"1", "b": b"2", "c": b"3"})
    for name in ("folder", "b", "never-there"):
        target.remove(name)
    assert [target.size(name) for name in ("folder/a", "b", "c")] == [None, None, 1]


def test_an_unknown_address_is_one_sentence():
    with pytest.raises(ConfigError, match=r"nowhere://x.*mend the address"):
        Target("nowhere://x")


def test_a_full_or_closed_disk_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(StorageError, match=r"file.a\.tar.*same command"),
        Target(tmp_path / "file").whole("a.tar"),
    ):
        pass


@given(st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=2, unique=True))
def test_plain_names_differ_and_need_no_quoting(names):
    one, other = map(plain_name, names)
    assert one != other
    assert all(letter.isascii() and (letter.isalnum() or letter in "-_~") for letter in one)


def host(length, last="a"):
    return ".".join(["a" * 60] * 5)[: length - 6] + f"{last}.test"


@pytest.mark.parametrize("length", [20, MAX_STEM, MAX_STEM + 1, 198, 230, 253])
def test_a_host_of_any_length_names_a_file(tmp_path, length):
    names = {file_stem(host(length, last)) for last in "abc"} | {file_stem(host(length) + ":80")}
    assert len(names) == 4
    assert max(map(len, names)) <= MAX_STEM
    target = Target(tmp_path)
    for name in names:
        target.write({f"{name}-00000-000.parquet": b"1"})
    assert (host(length) in names) == (length <= MAX_STEM)
