"""Disks that fail at any step, and disks that forget what they were not told to keep."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from distributed_downloader import durable
from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.errors import StorageError
from distributed_downloader.paths import Batch
from distributed_downloader.records import ErrorClass
from distributed_downloader.storage import batch_tables, consolidation, parts, removal, shards
from distributed_downloader.storage.batch_files import BatchFiles
from distributed_downloader.storage.consolidation import consolidate
from distributed_downloader.storage.damage import damaged_images, damaged_tables
from distributed_downloader.storage.mending import PLACES
from distributed_downloader.storage.removal import remove_images
from tests.unit.dataset_folder import DatasetFolder
from tests.unit.storage.test_takeover import removal_of
from tests.unit.storage_folder import Folder, allowed, failed

A = Batch("a.example", 0)


class FailingDisk:
    """Fails at one of its fsyncs, and at all that follow."""

    def __init__(self, number: int, fault: int) -> None:
        self.left, self.fault = number, fault

    def fsync(self, descriptor: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(self.fault, os.strerror(self.fault))


def work(folder: DatasetFolder) -> None:
    """All that writes a dataset: a consolidation, and verify's tables."""
    consolidate(A, folder.paths, 3, retries_waves=3, allowed=allowed)
    verify_dataset(folder.settings())


@pytest.mark.parametrize(
    ("fault", "every"), [(errno.ENOSPC, 1), (errno.EDQUOT, 6), (errno.EIO, 5), (errno.EROFS, 7)]
)
def test_a_disk_that_fails_at_any_step_is_one_sentence_and_a_rerun_finishes(
    tmp_path, monkeypatch, fault, every
):
    begun = DatasetFolder(tmp_path / "begun")
    begun.add(A, ["ok", "ok", ErrorClass.NOT_FOUND])
    begun.finish()
    number = 0
    while True:
        folder = DatasetFolder(tmp_path / f"out-{number}", batches=begun.batches)
        shutil.copytree(begun.root, folder.root)
        disk = FailingDisk(number, fault)
        monkeypatch.setattr(durable.os, "fsync", disk.fsync)
        try:
            work(folder)
            break
        except StorageError as error:
            assert str(error).startswith(f"Cannot write {folder.root}/"), error
            assert f"{os.strerror(fault)}. Make room" in str(error)
        finally:
            monkeypatch.undo()
        work(folder)
        assert verify_dataset(folder.settings(verify="full"))["states"]["ok"] == 2
        assert not list(folder.root.rglob(".tmp-*"))
        number += every
    assert number > 15, "every step of it was tried"


class ForgetfulDisk:
    """Knows of each file what it held, and of each folder what was in it, at its last fsync."""

    def __init__(self, root: Path, *, forgets_removals: bool) -> None:
        self._root, self._forgets_removals = root, forgets_removals
        self._files: dict[int, bytes] = {}
        self._folders: dict[int, dict[str, tuple[int, bool]]] = {}
        self._real = durable.fsync_path
        self._real_fsync(root)

    def fsync_path(self, path: Path) -> None:
        self._real(path)
        self._real_fsync(path)

    def _real_fsync(self, path: Path) -> None:
        inode = path.stat().st_ino
        if path.is_dir():
            there = ((entry, entry.stat().st_ino) for entry in path.iterdir())
            self._folders[inode] = {e.name: (number, e.is_dir()) for e, number in there}
        else:
            self._files[inode] = path.read_bytes()

    def after_a_power_cut(self, to: Path) -> None:
        """Make what is left of it."""
        self._restore(self._root.stat().st_ino, self._root, to)

    def _restore(self, folder: int, source: Path | None, to: Path) -> None:
        to.mkdir(parents=True)
        for name, (inode, is_dir) in self._folders.get(folder, {}).items():
            here = source / name if source is not None else None
            is_gone = here is None or not here.exists()
            if is_gone and not self._forgets_removals:
                continue
            if is_dir:
                self._restore(inode, here, to / name)
            else:
                (to / name).write_bytes(self._files.get(inode, b""))


@pytest.mark.parametrize("forgets_removals", [True, False])
def test_a_power_cut_at_any_moment_costs_nothing_that_was_committed(
    tmp_path, monkeypatch, forgets_removals
):
    folder = Folder(tmp_path / "out")
    folder.paths.root.mkdir()
    disk = ForgetfulDisk(folder.paths.root, forgets_removals=forgets_removals)
    committed: set[str] = set()
    gone: set[str] = set()
    moments: list[Path] = []

    def look(_name: str = "") -> None:
        copy = Folder(tmp_path / f"cut-{len(moments)}")
        disk.after_a_power_cut(copy.paths.root)
        moments.append(copy.paths.root)
        assert damaged_tables(copy.images) == []
        images = BatchFiles.of(copy.images).images().select(PLACES).collect()
        assert damaged_images(copy.images, images) == []
        known = BatchFiles.of(copy.images).states(1)["uuid"].to_list()
        assert len(known) == len(set(known))
        assert set(known) >= committed
        assert not set(images["uuid"]) & gone

    def fsync_path(path: Path) -> None:
        disk.fsync_path(path)
        look()

    for module in (durable, parts, batch_tables):
        monkeypatch.setattr(module, "fsync_path", fsync_path)
    for module in (parts, consolidation, shards, removal):
        monkeypatch.setattr(module, "crash_point", look)
    for wave, numbers in enumerate(((1, 2), (3, 4), (5,))):
        folder.commit(dict.fromkeys(numbers, "ok") | {n + 10: failed() for n in numbers}, wave=wave)
        committed |= {f"row-{n}" for n in numbers} | {f"row-{n + 10}" for n in numbers}
        look()
        if wave:
            consolidate(folder.batch, folder.paths, 20, retries_waves=1, allowed=allowed)
            look()
    remove_images(folder.batch, folder.paths, removal_of(1), allowed=allowed)
    gone.add("row-1")
    look()
    assert len(moments) > 50
