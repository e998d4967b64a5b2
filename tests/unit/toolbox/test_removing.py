"""image_verification, size_based, duplication_based, compact and restore, on real images."""

import csv
import hashlib
import signal

import polars as pl
import pytest

from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.durable import write_json, write_parquet
from distributed_downloader.errors import ConfigError, ToolError
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.storage.dataset import Dataset
from distributed_downloader.storage.removal import remove_images
from distributed_downloader.tables import DUPLICATES, PARTITIONS, TOMBSTONES
from distributed_downloader.tools import removal
from distributed_downloader.tools.restoring import removals, restore
from tests.unit.images_folder import ONE, TWO, ImagesFolder, picture
from tests.unit.storage_folder import Killed


@pytest.fixture
def folder(tmp_path):
    return ImagesFolder(tmp_path)


def damage(folder, batch, number):
    """Change a byte of a stored image, in its shard."""
    row = folder.images(batch).row(number, named=True)
    path = folder.paths.batch_images(batch) / row["file"]
    body = path.read_bytes()
    with Dataset(folder.paths.root) as dataset:
        image = dataset.bytes(row["uuid"])
    at = body.index(image) + len(image) // 2
    path.write_bytes(body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :])
    return row["uuid"]


def states(folder):
    counted = verify_dataset(folder.settings)["states"]
    return {state: rows for state, rows in counted.items() if rows}


def table(folder, tool):
    files = sorted((folder.paths.tools / tool / "filter_table").glob("*.csv"))
    return [row for file in files for row in read(file)]


def read(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def test_a_damaged_image_is_listed_removed_and_pending_again(folder):
    folder.add(ONE, [picture(n) for n in range(4)])
    folder.add(TWO, [picture(n) for n in range(4, 7)])
    uuid = damage(folder, ONE, 2)
    result = folder.run("image_verification")
    assert (result["images"], result["removed"], result["left"]) == (7, 1, 0)
    [listed] = read(folder.paths.tools / "image_verification" / "corrupted" / "0.csv")
    assert listed["uuid"] == uuid
    assert listed["server_name"] == ONE.server_name
    assert listed["reason"] in {"other bytes than were stored", "cannot be decoded"}
    assert states(folder) == {"ok": 6, "pending": 1}
    assert folder.run("image_verification") is None

    folder.store(ONE, {uuid: picture(2)}, wave=1)
    folder.consolidate(ONE)
    assert states(folder) == {"ok": 7}
    assert folder.run("image_verification")["images"] == 4  # of the batch that has a new image


def test_a_damaged_image_is_listed_once_also_after_a_kill_between_list_and_removal(
    folder, monkeypatch
):
    folder.add(ONE, [picture(n) for n in range(3)])
    first = damage(folder, ONE, 1)

    def dies(*words, **options):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(removal, "remove_images", dies)
        folder.run("image_verification")
    second = damage(folder, ONE, 2)
    assert folder.run("image_verification")["removed"] == 2
    listed = read(folder.paths.tools / "image_verification" / "corrupted" / "0.csv")
    assert [row["uuid"] for row in listed] == [first, second]


def test_an_image_that_crashes_its_decoder_is_listed_and_the_others_go_on(folder, deadly):
    folder.add(ONE, [picture(n) for n in range(4)])
    folder.add(TWO, [picture(4)])
    deadly[picture(2)] = signal.SIGSEGV
    result = folder.run("image_verification")
    assert (result["images"], result["removed"], result["left"]) == (5, 1, 0)
    [listed] = read(folder.paths.tools / "image_verification" / "corrupted" / "0.csv")
    assert (listed["uuid"], listed["reason"]) == ("a-2", "makes its decoder crash")
    assert states(folder) == {"ok": 4, "pending": 1}


def test_an_image_that_nobody_can_look_at_now_stays_and_is_told(folder, deadly):
    folder.add(ONE, [picture(n) for n in range(3)])
    damaged = damage(folder, ONE, 0)
    deadly[picture(1)] = signal.SIGKILL  # as a system without memory does
    with pytest.raises(ToolError, match=r"1 image cannot be looked at \(a-1: its decoder died"):
        folder.run("image_verification")
    assert states(folder) == {"ok": 2, "pending": 1}
    assert damaged == "a-0"
    deadly.clear()
    assert folder.run("image_verification")["removed"] == 0
    assert folder.uuids() == ["a-1", "a-2"]


def rewrite(folder, batch, **columns):
    """Have the table of a batch say something else."""
    file = folder.paths.batch_images(batch) / "successes.parquet"
    metadata = pl.read_parquet_metadata(file)
    table = pl.read_parquet(file).with_columns(**columns)
    table.write_parquet(file, metadata={k: metadata[k] for k in ("absorbed", "next_shard")})


def test_bytes_of_the_right_hash_that_are_no_image_are_found(folder):
    folder.add(ONE, [picture(1)])
    shard = folder.paths.batch_images(ONE) / folder.images(ONE)["file"][0]
    zeros = bytes(len(picture(1)))
    shard.write_bytes(shard.read_bytes().replace(picture(1), zeros))
    rewrite(folder, ONE, hashsum_resized=pl.lit(hashlib.md5(zeros).hexdigest()))
    assert folder.run("image_verification")["removed"] == 1
    [listed] = read(folder.paths.tools / "image_verification" / "corrupted" / "0.csv")
    assert listed["reason"] == "cannot be decoded"


def test_a_wrong_size_in_the_table_is_found(folder):
    folder.add(ONE, [picture(1)])
    rewrite(folder, ONE, resized_size=pl.Series([[1, 2]], dtype=pl.List(pl.Int32)))
    assert folder.run("image_verification")["removed"] == 1


def test_small_originals_go_and_are_not_fetched_again(folder):
    folder.add(ONE, [picture(1, (300, 200)), picture(2, (300, 224)), picture(3, (100, 400))])
    folder.set(threshold_size=224)
    assert folder.run("size_based")["removed"] == 2
    assert [row["uuid"] for row in table(folder, "size_based")] == ["a-0", "a-2"]
    assert states(folder) == {"ok": 1, "removed": 2}
    assert folder.run("size_based") is None


def test_another_threshold_makes_everything_undone(folder):
    folder.add(ONE, [picture(1, (300, 200)), picture(2, (300, 240))])
    folder.set(threshold_size=100)
    assert folder.run("size_based") is None
    folder.set(threshold_size=250)
    assert folder.run("size_based")["removed"] == 2


def test_of_equal_images_the_first_by_partition_and_server_stays(folder):
    later = type(ONE)("a.museum.test", 1)
    folder.add(later, [picture(1), picture(9)])
    folder.add(TWO, [picture(1), picture(2), picture(2)])
    folder.add(ONE, [picture(2), picture(3)])
    result = folder.run("duplication_based")
    assert result["removed"] == 3
    found = {
        (row["server_name"], row["partition_id"], row["uuid"]): (
            row["server_name_main"],
            row["partition_id_main"],
            row["uuid_main"],
        )
        for row in table(folder, "duplication_based")
    }
    assert found == {
        ("a.museum.test", "1", "a-0"): ("b.garden.test", "0", "b-0"),
        ("b.garden.test", "0", "b-1"): ("a.museum.test", "0", "a-0"),
        ("b.garden.test", "0", "b-2"): ("a.museum.test", "0", "a-0"),
    }
    columns = set(table(folder, "duplication_based")[0])
    own = {"uuid", "source_id", "server_name", "partition_id"}
    assert columns == own | {f"{name}_main" for name in own}


def test_a_new_image_that_comes_first_makes_the_older_one_go(folder):
    folder.add(TWO, [picture(1), picture(2), picture(2)])
    assert folder.run("duplication_based")["removed"] == 1
    folder.add(ONE, [picture(1)])
    assert folder.run("duplication_based")["removed"] == 1
    assert folder.uuids() == ["a-0", "b-1"]


def test_removals_can_be_undone_and_then_done_again(folder):
    folder.add(ONE, [picture(n, (50, 50)) for n in range(3)] + [picture(9, (300, 300))])
    folder.set(threshold_size=100)
    with Dataset(folder.paths.root) as dataset:
        before = {record.uuid: record.bytes for record in dataset}
    folder.run("size_based")
    assert removals(folder.paths) == {"size_based": 3}
    assert restore(folder.settings, "size_based", allowed=lambda: None).images == 3
    assert states(folder) == {"ok": 4}
    assert (folder.paths.batch_images(ONE) / "completed").exists()
    with Dataset(folder.paths.root) as dataset:
        assert {record.uuid: record.bytes for record in dataset} == before
    assert folder.run("size_based")["removed"] == 3


def test_a_removal_can_be_undone_after_more_waves(folder):
    """Consolidation keeps the shards of removed images, when all in them are removed too."""
    folder.add(ONE, [picture(n, (50, 50)) for n in range(2)])
    folder.set(threshold_size=100)
    folder.run("size_based")
    for wave in range(1, 20):  # so many small shards that they are put together
        folder.add(ONE, [picture(10 + wave, (300, 300))], wave)
    assert restore(folder.settings, "size_based", allowed=lambda: None).images == 2
    assert states(folder) == {"ok": 21}
    assert folder.run("image_verification")["removed"] == 0


def test_restore_names_the_tools_that_removed_something(folder):
    folder.add(ONE, [picture(1)])
    with pytest.raises(ConfigError, match=r"^Say whose removals .* no tool has removed anything"):
        restore(folder.settings, "", allowed=lambda: None)
    folder.set(threshold_size=100)
    folder.run("size_based")
    with pytest.raises(ConfigError, match=r"'resize' has removed nothing: .* of size_based \(1\)"):
        restore(folder.settings, "resize", allowed=lambda: None)


@pytest.mark.parametrize(
    ("who", "why"), [("verify", "is damaged"), ("list", "has its row no more")]
)
def test_what_no_tool_removed_cannot_be_restored(folder, who, why):
    folder.add(ONE, [picture(n, (50, 50)) for n in range(2)])
    which = {"uuid": ["a-0"], "tool": [who], "reason": ["r"], "refetch": [True]}
    remove_images(ONE, folder.paths, pl.DataFrame(which), allowed=lambda: None)
    assert removals(folder.paths) == {}
    folder.set(threshold_size=100)
    folder.run("size_based")
    with pytest.raises(ConfigError, match=rf"{who}.* cannot .*{why}.*, one of size_based \(1\)\.$"):
        restore(folder.settings, who, allowed=lambda: None)
    assert folder.uuids() == []


def grown(folder, gone):
    """The list has one row of ONE no more."""
    folder._write_urls()
    current = folder.paths.generations / "1"
    sizes = [(b.server_name, b.partition_id, len(u), int(b == ONE)) for b, u in folder.rows.items()]
    schema = {**PARTITIONS, "gone": pl.Int64}
    write_parquet(current / "partitions.parquet", pl.DataFrame(sizes, schema, orient="row"))
    tombstone = {"uuid": gone, "server_name": ONE.server_name, "partition_id": 0, "reason": "gone"}
    graves = pl.DataFrame([{name: tombstone.get(name) for name in TOMBSTONES}], TOMBSTONES)
    write_parquet(current / "tombstones.parquet", graves)
    write_parquet(current / "duplicates.parquet", DUPLICATES.to_frame())
    write_json(
        current / "source.json", {"counts": {"rows": sum(map(len, folder.rows.values())) - 1}}
    )


def test_a_batch_with_rows_that_the_list_has_no_more_is_completed_after_a_tool(folder):
    folder.add(ONE, [picture(1, (300, 300)), picture(2, (50, 50)), picture(3, (60, 60))])
    grown(folder, "a-0")
    completed = folder.paths.batch_images(ONE) / "completed"
    folder.set(threshold_size=55)
    assert folder.run("size_based")["removed"] == 1
    assert completed.exists()
    assert restore(folder.settings, "size_based", allowed=lambda: None).images == 1
    assert completed.exists()
    folder.run("size_based")
    folder.run("compact")
    assert completed.exists()


def test_compact_reclaims_the_bytes_and_what_it_took_is_still_removed(folder):
    folder.add(ONE, [picture(n, (50, 50)) for n in range(5)] + [picture(9, (300, 300))])
    folder.set(threshold_size=100)
    size = sum(f.stat().st_size for f in folder.paths.batch_images(ONE).glob("*.h5"))
    folder.run("size_based")
    assert folder.run("compact")["images"] == 5
    after = sum(f.stat().st_size for f in folder.paths.batch_images(ONE).glob("*.h5"))
    assert after < size
    assert states(folder) == {"ok": 1, "removed": 5}
    assert folder.run("image_verification")["removed"] == 0
    assert folder.run("compact") is None
    done = restore(folder.settings, "size_based", allowed=lambda: None)
    assert (done.images, done.lost) == (0, 5)
    removed = BatchFiles.of(folder.paths.batch_images(ONE)).removed().collect()
    assert removed["file"].null_count() == 5


def test_images_that_a_killed_wave_left_in_parts_can_be_removed_and_restored(folder):
    folder.add(ONE, [picture(1, (300, 300))])
    folder.rows[ONE].append("late")
    folder.store(ONE, {"late": picture(2)}, wave=1)
    folder._write_urls()
    folder.set(threshold_size=100)
    assert folder.run("size_based")["removed"] == 1
    assert not list(folder.paths.batch_images(ONE).glob("part-*"))
    assert restore(folder.settings, "size_based", allowed=lambda: None).images == 1
    assert states(folder) == {"ok": 2}


def test_the_summary_says_what_tools_removed(folder):
    folder.add(ONE, [picture(1), picture(1), picture(2)])
    damage(folder, ONE, 2)
    folder.run("duplication_based")
    folder.run("image_verification")
    found = verify_dataset(folder.settings)["removals"]
    assert {(one["tool"], one["refetch"], one["rows"]) for one in found} == {
        ("duplication_based", False, 1),
        ("image_verification", True, 1),
    }
