"""Whether a run may go on in a folder that is there already."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from distributed_downloader.errors import FolderError
from distributed_downloader.lists.partition import check_folder, partition_urls
from tests.unit.conftest import make_settings
from tests.unit.lists.partitioned_lists import partitioned, urls


def test_a_whole_folder_is_left_alone(tmp_path: Path) -> None:
    settings, counts = partitioned(tmp_path, urls("a.org/1"))
    before = settings.paths.partitions.stat()
    assert partition_urls(settings) == counts
    after = settings.paths.partitions.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_list_that_is_touched_or_moved_goes_on(tmp_path: Path) -> None:
    settings, _ = partitioned(tmp_path, urls("a.org/1"))
    path = Path(settings.path_to_input)
    os.utime(path, (1, 1))
    check_folder(settings)
    moved = path.rename(tmp_path / "moved.jsonl")
    check_folder(settings)  # gone: the folder has all its rows
    check_folder(make_settings(tmp_path, path_to_input=str(moved)))


@pytest.mark.parametrize("same_size", [True, False])
def test_another_list_needs_the_table_of_batches(tmp_path: Path, same_size: bool) -> None:
    settings, _ = partitioned(tmp_path, urls("a.org/1"))
    path = Path(settings.path_to_input)
    path.write_text(path.read_text().replace("/1", "/2" if same_size else "/22"))
    os.utime(path, (1, 1))
    check_folder(settings)  # it may be gone on with
    settings.paths.partitions.unlink()
    with pytest.raises(FolderError, match=r"made from another list.*give another path_to_output"):
        check_folder(settings)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"downloader_parameters": {"batch_size": 7}}, "batch_size"),
        ({"downloader_parameters": {"image_size": 99}}, "image_size"),
        ({"images": {"format": "png"}}, "images.format"),
        ({"images": {"keep_original": True}}, "images.keep_original"),
        ({"columns": {"title": "other"}}, "columns.title"),
        ({"filters": {"servers": ["a.org"]}}, "filters.servers"),
        ({"initializer_type": "gbif"}, "initializer_type"),
    ],
)
def test_what_cannot_be_mixed_is_refused(tmp_path: Path, config: dict[str, Any], name: str) -> None:
    settings, _ = partitioned(tmp_path, urls("a.org/1"))
    changed = make_settings(tmp_path, path_to_input=settings.path_to_input, **config)
    with pytest.raises(FolderError, match=f"put {name} back, or give another path_to_output"):
        partition_urls(changed)


def test_a_folder_of_before_a_setting_was_made_with_its_default(tmp_path: Path) -> None:
    settings, counts = partitioned(tmp_path, urls("a.org/1"))
    source = json.loads(settings.paths.source.read_text())
    del source["settings"]["columns"]["hash"], source["settings"]["filters"]
    settings.paths.source.write_text(json.dumps(source))
    assert partition_urls(settings) == counts
    hashed = {"path_to_input": settings.path_to_input, "columns": {"hash": "md5"}}
    with pytest.raises(
        FolderError, match=r"made with columns.hash = '', not 'md5': put columns.hash"
    ):
        partition_urls(make_settings(tmp_path, **hashed))


def test_what_may_change_is_not_refused(tmp_path: Path) -> None:
    settings, counts = partitioned(tmp_path, urls("a.org/1"))
    changed = make_settings(
        tmp_path,
        path_to_input=settings.path_to_input,
        downloader_parameters={"workers_per_node": 3, "default_rate_limit": 1},
    )
    assert partition_urls(changed) == counts


def test_nothing_to_check_before_the_first_run(tmp_path: Path) -> None:
    check_folder(make_settings(tmp_path))
