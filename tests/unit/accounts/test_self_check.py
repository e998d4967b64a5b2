"""Files that were cut, changed or removed after the fact: found, named, and out of use."""

import os
import shutil
import tempfile
from pathlib import Path

import h5py
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distributed_downloader.accounts import ledger
from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.durable import read_json
from distributed_downloader.errors import DamageError, LedgerError
from distributed_downloader.paths import Batch
from distributed_downloader.records import ErrorClass
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.storage.removal import remove_images
from tests.unit.dataset_folder import OUTCOMES, RETRIES_WAVES, DatasetFolder

A, A1, B = Batch("a.example", 0), Batch("a.example", 1), Batch("b.example", 0)
FAILED = ErrorClass.NOT_FOUND


@pytest.fixture
def folder(tmp_path):
    """A: ok ok ok, two failed, consolidated; A1 the same; B: ok and failed, in a part."""
    folder = DatasetFolder(tmp_path / "out", rejected=1, duplicates=1)
    for batch in (A, A1):
        folder.add(batch, ["ok", "ok", "ok", FAILED, FAILED])
    folder.add(B, ["ok", FAILED])
    folder.finish()
    for batch in (A, A1):
        settle(folder, batch)
    verify_dataset(folder.settings())
    return folder


def settle(folder, batch):
    rows = len(folder.batches[batch])
    return consolidate(batch, folder.paths, rows, retries_waves=RETRIES_WAVES, allowed=lambda: None)


def states(folder):
    """Of the rows of each batch, in order."""
    table = pl.read_parquet(folder.paths.ledger).filter(pl.col("partition_id").is_not_null())
    found = {}
    for server, number, state in table.select("server_name", "partition_id", "state").iter_rows():
        found.setdefault(Batch(server, number), []).append(state)
    return found


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 4
    file.write_bytes(content)


def flip_image(folder: Path, index: int) -> None:
    """Change one bit in the bytes of one image."""
    with h5py.File(folder / "images-0.h5", "r") as file:
        at = file["data"].id.get_offset() + int(file["offsets"][index])
    flip(folder / "images-0.h5", at)


def cut(file: Path, kept: float) -> None:
    os.truncate(file, int(file.stat().st_size * kept))


def the_part(folder: Path) -> Path:
    return next(folder.glob("part-*"))


DAMAGES = {
    "a shard is gone": (A, lambda f: (f / "images-0.h5").unlink(), "images-0.h5", "012"),
    "a shard is cut": (A, lambda f: cut(f / "images-0.h5", 0.999), "images-0.h5", "012"),
    "half of a shard": (A, lambda f: cut(f / "images-0.h5", 0.3), "images-0.h5", "012"),
    "no byte of a shard": (A, lambda f: cut(f / "images-0.h5", 0), "images-0.h5", "012"),
    "an image is changed": (A, lambda f: flip_image(f, 1), r"images-0.h5.*\(1 images\)", "1"),
    "another is changed": (A, lambda f: flip_image(f, 2), "images-0.h5", "2"),
    "successes are gone": (A, lambda f: (f / "successes.parquet").unlink(), "successes", "012"),
    "successes are cut": (A, lambda f: cut(f / "successes.parquet", 0.5), "successes", "012"),
    "successes are changed": (A, lambda f: flip(f / "successes.parquet", 90), "successes", "012"),
    "errors are gone": (A, lambda f: (f / "errors.parquet").unlink(), "errors", "34"),
    "errors are cut": (A, lambda f: cut(f / "errors.parquet", 0.9), "errors", "34"),
    "errors are changed": (A, lambda f: flip(f / "errors.parquet", 50), "errors", "34"),
    "both tables are gone": (
        A,
        lambda f: [(f / name).unlink() for name in ("successes.parquet", "errors.parquet")],
        "has lost errors.parquet, successes.parquet",
        "01234",
    ),
    "all of a batch is gone": (A, shutil.rmtree, r"has lost .*images-0.h5.* \(5 rows\)", "01234"),
    "a part's rows are changed": (
        B,
        lambda f: flip(the_part(f) / "rows.parquet", 70),
        "rows",
        "01",
    ),
    "a part's rows are gone": (B, lambda f: (the_part(f) / "rows.parquet").unlink(), "rows", "01"),
    "a part's images are cut": (B, lambda f: cut(the_part(f) / "images.h5", 0.9), "images.h5", "0"),
    "a part's images are gone": (B, lambda f: (the_part(f) / "images.h5").unlink(), "images", "0"),
    "a part is gone": (B, lambda f: shutil.rmtree(the_part(f)), "has lost part-", "01"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_and_costs_exactly_its_rows(folder, name):
    batch, spoil, said, lost = DAMAGES[name]
    expected = states(folder)
    expected[batch] = [
        "pending" if str(number) in lost else state for number, state in enumerate(expected[batch])
    ]
    spoil(folder.paths.batch_images(batch))

    with pytest.raises(DamageError, match=said) as told:
        verify_dataset(folder.settings())

    assert str(batch.folder) in str(told.value)
    assert "run the same command again" in str(told.value)
    assert states(folder) == expected
    assert read_json(folder.paths.left)["left"] == len(lost)
    assert not (folder.paths.batch_images(batch) / "completed").exists()
    verify_dataset(folder.settings())  # it is out of use by now
    assert states(folder) == expected
    settle(folder, batch)
    verify_dataset(folder.settings(verify="full"))
    assert states(folder) == expected


def test_what_was_lost_comes_back_by_another_wave_and_shards_have_new_names(folder):
    images = folder.paths.batch_images(A)
    cut(images / "successes.parquet", 0.5)
    with pytest.raises(DamageError):
        verify_dataset(folder.settings())
    again = DatasetFolder(folder.root, batches={}, uuids=0)
    again.add(A, ["ok", "ok", "ok"], wave=1)  # the same rows
    settle(folder, A)
    verify_dataset(folder.settings())
    assert states(folder)[A] == ["ok"] * 3 + ["failed_final"] * 2
    assert [file.name for file in images.glob("images-*.h5")] == ["images-1.h5"]


def test_removals_that_are_forgotten_are_noticed(folder):
    which = pl.DataFrame({"uuid": ["uuid-1"], "tool": "t", "reason": "r", "refetch": [False]})
    remove_images(A, folder.paths, which, allowed=lambda: None)
    verify_dataset(folder.settings())
    (folder.paths.batch_images(A) / "removed.parquet").unlink()
    with pytest.raises(DamageError, match=r"has lost removed.parquet \(1 rows\)"):
        verify_dataset(folder.settings())
    assert states(folder)[A][:2] == ["pending", "ok"]


def test_a_change_that_leaves_no_trace_is_found_when_all_is_read(folder):
    file = folder.paths.batch_images(A1) / "images-0.h5"
    status = file.stat()
    flip_image(file.parent, 0)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    verify_dataset(folder.settings())
    with pytest.raises(DamageError, match=r"partition_id=1/images-0.h5"):
        verify_dataset(folder.settings(verify="full"))
    assert states(folder)[A1][:2] == ["pending", "ok"]


@pytest.fixture
def opened(monkeypatch):
    """The batches whose files are opened."""
    seen, real = [], ledger.batch_rows

    def spying(batch, *rest):
        seen.append(batch)
        return real(batch, *rest)

    monkeypatch.setattr(ledger, "batch_rows", spying)
    return seen


def test_only_batches_that_changed_are_opened(folder, opened):
    verify_dataset(folder.settings())
    assert opened == []
    settle(folder, B)
    verify_dataset(folder.settings())
    assert opened == [B]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: {"retries": {"waves": RETRIES_WAVES + 1}},
        lambda folder: folder.paths.ignored_table.write_text("server_name\nb.example\n") and {},
        lambda folder: folder.paths.verified.unlink() or {},
        lambda folder: cut(folder.paths.verified, 0.9) or {},
        lambda folder: cut(folder.paths.ledger, 0.9) or {},
        lambda folder: flip(folder.paths.ledger, 60) or {},
        lambda folder: {"verify": "full"},
    ],
)
def test_every_batch_is_opened_when_what_was_counted_does_not_hold(folder, opened, change):
    verify_dataset(folder.settings(**change(folder)))
    assert opened == [A, A1, B]


def test_nothing_is_remembered_of_a_count_that_failed(folder):
    folder.paths.batch_urls(A1).unlink()
    for _ in range(2):
        with pytest.raises(LedgerError, match=r"has no urls.parquet"):
            verify_dataset(folder.settings())


@hypothesis_settings(max_examples=20, deadline=None)
@given(
    waves=st.lists(
        st.dictionaries(st.integers(0, 4), st.lists(st.sampled_from(OUTCOMES), min_size=1)),
        min_size=1,
        max_size=4,
    ),
    settled=st.sets(st.integers(0, 4)),
)
def test_what_is_remembered_counts_as_what_is_read(waves, settled):
    with tempfile.TemporaryDirectory() as root:
        folder = DatasetFolder(Path(root), rejected=1, duplicates=2)
        batches = [Batch(f"server-{number % 2}", number) for number in range(5)]
        for batch in batches:
            folder.add(batch, ["ok", "pending"])
        for number, wave in enumerate(waves):
            for index, outcomes in wave.items():
                folder.add(batches[index], outcomes, wave=number)
            folder.finish()
            if number == 1:
                for index in settled:
                    settle(folder, batches[index])
            remembered = verify_dataset(folder.settings())
        table = pl.read_parquet(folder.paths.ledger)
        left = read_json(folder.paths.left)
        read = verify_dataset(folder.settings(verify="full"))
        for value in (remembered, read, left, (left_now := read_json(folder.paths.left))):
            value.pop("written")
        assert remembered == read
        assert left == left_now
        assert pl.read_parquet(folder.paths.ledger).equals(table)
