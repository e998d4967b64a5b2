import os
import subprocess
import sys
from pathlib import Path

import h5py
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.errors import FolderError, LockError, StorageError
from distributed_downloader.records import ErrorClass
from distributed_downloader.storage import image_files, parts
from distributed_downloader.storage.image_files import ImageFile, new_image_file, offsets_of
from distributed_downloader.storage.parts import (
    PROFILE_WAVE,
    PartName,
    PartNames,
    PartWriter,
    list_parts,
)
from distributed_downloader.tables import PART_ROWS
from tests.unit.storage_folder import (
    BATCH,
    ELSEWHERE,
    NOT_FOUND,
    Clock,
    Folder,
    Killed,
    allowed,
    encoded,
    failed,
    fetched,
    image_bytes,
    row,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def rows_of(part):
    return pl.read_parquet(part / "rows.parquet", hive_partitioning=False)


@given(
    st.builds(
        PartName,
        st.integers(PROFILE_WAVE, 10_000),
        st.integers(0, 10_000),
        st.integers(0, 10_000),
        st.text("0123456789abcdef", max_size=8),
    )
)
def test_names_are_read_back(name):
    assert PartName.parse(str(name)) == name


@pytest.mark.parametrize("name", ["part-1-2", "part-1-2-x", ".tmp-part-1-2-3", "images-0.h5", ""])
def test_other_names_are_no_parts(name):
    assert PartName.parse(name) is None


def test_names_are_never_used_twice():
    """Also not by a process that starts the same wave again."""
    names = [str(source.next()) for source in (PartNames(3, 1), PartNames(3, 1)) for _ in range(9)]
    assert len(set(names)) == 18


def test_parts_are_listed_by_wave_and_number_not_by_letter(folder):
    names = ["part-10-0-0-a", "part-2-0-10-a", "part-2-0-9-a", "part-profile-0-0-a"]
    for name in names:
        (folder.images / name).mkdir(parents=True)
    (folder.images / ".tmp-123-part-2-0-0").mkdir()
    found = [part.name for part in list_parts(folder.images)]
    assert found == ["part-profile-0-0-a", "part-2-0-9-a", "part-2-0-10-a", "part-10-0-0-a"]
    assert list_parts(folder.images / "nothing") == []


def test_a_part_holds_images_and_errors(folder):
    part = folder.commit({1: "ok", 2: NOT_FOUND, 3: "ok"}, wave=4, rank=2)
    assert PartName.parse(part.name).wave == 4
    table = rows_of(part)
    assert table.schema == PART_ROWS
    assert table["uuid"].to_list() == ["row-1", "row-2", "row-3"]
    assert table["index"].to_list() == [0, None, 1]
    assert table["wave"].to_list() == [4, 4, 4]
    assert table["error_class"].to_list() == [None, "not_found", None]
    with h5py.File(part / "images.h5") as file:
        assert file["data"][:].tobytes() == image_bytes(1) + image_bytes(3)
        assert file["data"].chunks is None
        assert file["data"].dtype == "uint8"
        assert file["offsets"].dtype == "uint64"
        assert list(file["offsets"]) == [
            0,
            len(image_bytes(1)),
            len(image_bytes(1)) + len(image_bytes(3)),
        ]
        assert list(file["uuid"]) == [b"row-1", b"row-3"]
        assert dict(file.attrs) == {
            "format_version": 1,
            "server_name": "images.example.org:8080",
            "partition_id": 3,
        }
        assert "original" not in file


def test_an_image_row_says_all_that_is_known_of_it(folder):
    (said,) = rows_of(folder.commit({7: "ok"})).to_dicts()
    assert said["is_license_full"] is True
    assert said["title"] == "No. 7"
    assert said["original_size"] == [30, 40]
    assert said["resized_size"] == [3, 4]
    assert said["final_url"] == "http://elsewhere.org/7"
    assert said["etag"] == '"e"'
    assert said["fetched_at"].timestamp() == pytest.approx(1_700_000_000, abs=60)


def test_a_license_is_full_only_with_all_three(folder):
    writer = folder.writer()
    writer.add_image(row(1, meta={"license": "CC0", "title": "x"}), fetched(1), encoded(b"x"))
    (said,) = rows_of(writer.commit(folder.images, allowed)).to_dicts()
    assert said["is_license_full"] is False
    assert said["source"] is None


def test_a_part_of_errors_alone_has_no_images(folder):
    part = folder.commit({1: NOT_FOUND})
    assert [path.name for path in part.iterdir()] == ["rows.parquet"]


def test_originals_are_kept_beside_the_images(folder):
    part = folder.commit({1: "ok", 2: "ok"}, keep_original=True)
    with ImageFile(part / "images.h5") as file:
        assert file.read(1, "original") == b"original of " + image_bytes(2)
        assert file.has_originals


def test_an_original_that_is_stored_as_it_came_takes_no_room(folder):
    writer = folder.writer(keep_original=True)
    writer.add_image(row(1), fetched(1), encoded(b"the same"))
    with ImageFile(writer.commit(folder.images, allowed) / "images.h5") as file:
        assert file.read(0, "original") == b""


@pytest.mark.parametrize(
    ("failure", "wave", "carried", "expected"),
    [
        (failed(), 0, 0, (1, 0, 0)),
        (failed(), 5, 2, (3, 5, 0)),
        (NOT_FOUND, 5, 2, (2, None, 0)),
        (failed(ErrorClass.SERVER_DOWN, costs_a_try=False), 5, 2, (2, None, 0)),
        (ELSEWHERE, 5, 2, (2, None, 1)),
        (failed(), PROFILE_WAVE, 0, (0, None, 0)),
    ],
)
def test_a_wave_is_tried_when_the_row_is_to_blame(folder, failure, wave, carried, expected):
    outcome = (failure, 3, row(1, waves_tried=carried))
    (said,) = rows_of(folder.commit({1: outcome}, wave=wave)).to_dicts()
    assert (said["waves_tried"], said["tried_wave"], said["redirects"]) == expected
    assert said["retry_count"] == 2


def test_text_that_utf8_cannot_say_does_not_stop_a_commit(folder):
    failure = failed(final_url="http://x/\udcff")
    (said,) = rows_of(folder.commit({1: failure})).to_dicts()
    assert said["final_url"] == "http://x/?"


def test_the_buffer_knows_its_size_and_age(folder):
    clock = Clock()
    writer = PartWriter(BATCH, PartNames(0, 0), clock=clock)
    assert (len(writer), writer.bytes, writer.age_s) == (0, 0, 0)
    writer.add_image(row(1), fetched(1), encoded(b"x" * 10_000, b"y" * 5_000))
    assert 15_000 <= writer.bytes < 20_000
    since = clock.now
    clock.now += 50
    assert writer.age_s >= 50
    assert since < clock.now
    writer.commit(folder.images, allowed)
    assert (len(writer), writer.image_count, writer.bytes, writer.age_s) == (0, 0, 0, 0)


def test_nothing_collected_commits_nothing(folder):
    assert folder.writer().commit(folder.images, allowed) is None
    assert not folder.images.exists()


def test_a_run_that_lost_its_lock_commits_nothing_and_keeps_its_rows(folder):
    def forbidden():
        raise LockError("taken over")

    writer = folder.writer()
    writer.add_image(row(1), fetched(1), encoded(b"x"))
    with pytest.raises(LockError):
        writer.commit(folder.images, forbidden)
    assert list(folder.images.iterdir()) == []
    assert len(writer) == 1
    assert writer.commit(folder.images, allowed) is not None


def test_the_lock_is_looked_at_when_all_is_written(folder):
    seen = []

    def look():
        (beside,) = folder.images.iterdir()
        seen.append(sorted(path.name for path in beside.iterdir()))

    writer = folder.writer()
    writer.add_image(row(1), fetched(1), encoded(b"x"))
    writer.commit(folder.images, look)
    assert seen == [["images.h5", "rows.parquet"]]


@pytest.mark.parametrize(
    ("point", "is_there"),
    [
        ("part:before_write", False),
        ("part:after_images", False),
        ("part:before_rename", False),
        ("part:after_rename", True),
    ],
)
def test_a_part_is_there_as_a_whole_or_not_at_all(folder, monkeypatch, point, is_there):
    def crash_point(name):
        if name == point:
            raise Killed

    monkeypatch.setattr(parts, "crash_point", crash_point)
    with pytest.raises(Killed):
        folder.commit({1: "ok"})
    assert len(list_parts(folder.images)) == is_there


COMMIT_AND_DIE = """
import sys
from pathlib import Path
from tests.unit.storage_folder import Folder
Folder(Path(sys.argv[1])).commit({1: "ok", 2: "ok"})
"""


@pytest.mark.parametrize(
    ("point", "is_there"), [("part:before_rename", 0), ("part:after_rename", 1)]
)
def test_a_real_kill_leaves_at_most_an_orphan(tmp_path, point, is_there):
    done = subprocess.run(
        [sys.executable, "-c", COMMIT_AND_DIE, str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}", "DOWNLOADER_CRASH_AT": point},
        check=False,
    )
    images = Folder(tmp_path).images
    assert done.returncode == -9
    assert len(list_parts(images)) == is_there
    assert len(list(images.iterdir())) == 1


FILL_THE_DISK = """
import resource, signal, sys
from pathlib import Path
from distributed_downloader.errors import StorageError
from tests.unit.storage_folder import Folder, row, fetched, encoded, allowed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
folder = Folder(Path(sys.argv[1]))
writer = folder.writer()
writer.add_image(row(1), fetched(1), encoded(bytes(3_000_000)))
try:
    writer.commit(folder.images, allowed)
except StorageError as error:
    print(error)
print(len(writer), list(folder.images.iterdir()))
"""


def test_a_full_disk_is_one_sentence_and_the_rows_are_kept(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    sentence, left = done.stdout.splitlines()
    assert sentence.startswith(f"Cannot write {tmp_path}")
    assert "File too large" in sentence
    assert left == "1 []"


def test_a_folder_that_cannot_be_written_is_a_storage_error(folder):
    folder.images.parent.mkdir(parents=True)
    folder.images.write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="Cannot write"):
        folder.commit({1: "ok"})


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=20), st.data())
def test_image_files_give_back_what_was_put_in(tmp_path_factory, items, data):
    path = tmp_path_factory.mktemp("h5") / "images.h5"
    with new_image_file(path, BATCH, [f"ü-{n}" for n in range(len(items))]) as file:
        file.lay_out("data", offsets_of([len(item) for item in items]))
        file.append_all("data", items)
    chosen = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=10))
    with ImageFile(path) as file:
        assert [file.read(n) for n in range(len(file))] == items
        indexes = pl.Series(chosen, dtype=pl.Int64).to_numpy()
        assert b"".join(file.chunks(indexes)) == b"".join(items[n] for n in chosen)


def test_long_runs_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "CHUNK_BYTES", 7)
    items = [b"a" * 20, b"b" * 3, b"c" * 30]
    with new_image_file(tmp_path / "x.h5", BATCH, ["a", "b", "c"]) as file:
        file.lay_out("data", offsets_of([20, 3, 30]))
        file.append_all("data", items)
    with ImageFile(tmp_path / "x.h5") as file:
        chunks = list(file.chunks(pl.Series([0, 1, 2]).to_numpy()))
    assert b"".join(chunks) == b"".join(items)
    assert max(map(len, chunks)) == 7


@pytest.mark.parametrize("damage", ["text", "cut", "version"])
def test_a_damaged_image_file_is_told_by_name(tmp_path, damage):
    path = tmp_path / "images.h5"
    with new_image_file(path, BATCH, ["a"]) as file:
        file.lay_out("data", offsets_of([100_000]))
        file.append("data", bytes(100_000))
    if damage == "text":
        path.write_text("no HDF5")
    elif damage == "cut":
        os.truncate(path, 50_000)
    else:
        with h5py.File(path, "a") as file:
            file.attrs["format_version"] = 99
    with pytest.raises(FolderError, match=r"images\.h5"), ImageFile(path) as file:
        file.read(0)
