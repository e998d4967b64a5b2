"""A tool that is killed at each step of what it writes: the same command ends as without a kill.

The names are read from the library, so a new crash point is tried here without being listed.
"""

import hashlib
import re
import shutil

import pytest

from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.fleet.photos import photo
from distributed_downloader.storage.dataset import Dataset
from tests.unit.images_folder import ONE, TWO, ImagesFolder, picture
from tests.workflow.stages import SCRIPTS
from tests.workflow.test_crash_points import KILLED, OF_TOOLS

IN_PLACE = {"resize_in_place": True}
BY_TOOL = {  # what may be cut, and the settings with which it happens
    "size_based": ("tool", {}),
    "duplication_based": ("remove", {}),
    "compact": ("compact", {}),
    "restore": ("restore", {}),
    "resize": ("resize", {}),
    "resize in place": ("resize", IN_PLACE),
    "near_duplicates": ("near", {"near_remove": True}),
}


LOOK_ALIKE = [photo("a", "small"), photo("a", "small") + b"other bytes"]


def crash_points():
    found = set()
    for file in (SCRIPTS / "distributed_downloader").rglob("*.py"):
        found |= set(re.findall(r'crash_point\("([\w:]+)"\)', file.read_text()))
    return sorted(name for name in found if name.partition(":")[0] in OF_TOOLS)


CASES = [
    (tool, name)
    for tool, (kind, _) in BY_TOOL.items()
    for name in crash_points()
    if name.partition(":")[0] == kind and name != "tool:before_finished"
] + [("resize", "tool:before_finished")]


def test_every_crash_point_of_a_tool_is_tried():
    assert {name for _, name in CASES} == set(crash_points())


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Large and small images, some of them twice; size_based has removed some already."""
    folder = ImagesFolder(tmp_path_factory.mktemp("begun"))
    folder.add(ONE, [picture(n, (300 + n, 300)) for n in (1, 2, 2, 3, 3)])
    folder.add(ONE, [picture(n, (60, 60)) for n in (5, 6)], wave=1)
    folder.add(TWO, [*(picture(n, (300 + n, 300)) for n in (1, 4)), *LOOK_ALIKE])
    return folder


@pytest.fixture(scope="module")
def removed(begun, tmp_path_factory):
    folder = ImagesFolder(tmp_path_factory.mktemp("removed"), rows=begun.rows)
    shutil.copytree(begun.paths.root, folder.paths.root)
    folder.set(threshold_size=100)
    assert folder.run("size_based")["removed"] == 2
    return folder


def everything(folder):
    """What can be read back, and how all rows are accounted for."""
    found = {}
    for root in (folder.paths.root, folder.paths.tools / "resize"):
        if (root / "images").exists():
            with Dataset(root) as dataset:
                for record in dataset:
                    body = record.bytes
                    assert hashlib.md5(body).hexdigest() == record.row["hashsum_resized"]
                    found[root.name, record.uuid] = body
    shards = {
        (path.parent.parent.name, path.parent.name): len(list(path.parent.glob("*.h5")))
        for path in folder.paths.root.rglob("successes.parquet")
    }
    assert not list(folder.paths.images.rglob(".tmp-*"))
    return found, shards, verify_dataset(folder.settings)["states"]


@pytest.mark.parametrize(("tool", "name"), CASES)
def test_after_a_kill_there_a_rerun_ends_as_without(tool, name, begun, removed, stages, tmp_path):
    start = removed if tool in ("compact", "restore") else begun
    stage, results = tool.partition(" ")[0], []
    for label, crash_at in (("plain", ""), ("killed", name)):
        folder = ImagesFolder(tmp_path / label, rows=begun.rows)
        shutil.copytree(start.paths.root, folder.paths.root)
        folder.set(threshold_size=100, new_resize_size=50, **BY_TOOL[tool][1])
        config = {**folder.settings.raw, "tool": "size_based"}
        if crash_at:
            assert stages.play(config, stage, crash_at=crash_at) == KILLED
            verify_dataset(folder.settings)
        if crash_at != "restore:after_removed":  # all is back: there is nothing left to restore
            assert stages.play(config, stage) == 0, (folder.paths.root / "said.txt").read_text()
        results.append(everything(folder))
    assert results[0] == results[1]


def test_a_partition_that_fails_is_told_by_the_exit_code_and_is_all_that_is_done_again(
    begun, stages, tmp_path
):
    folder = ImagesFolder(tmp_path, rows=begun.rows)
    shutil.copytree(begun.paths.root, folder.paths.root)
    folder.set(new_resize_size=50)
    shard = folder.paths.batch_images(TWO) / folder.images(TWO)["file"][0]
    whole = shard.read_bytes()
    shard.write_bytes(whole.replace(picture(4, (304, 300)), bytes(len(picture(4, (304, 300))))))
    assert stages.play(folder.settings.raw, "resize") == 1
    said = (folder.paths.root / "said.txt").read_text()
    assert f"error: resize failed for 1 of 2 partitions: {TWO.folder}: 1 image cannot be" in said
    shard.write_bytes(whole)
    assert stages.play(folder.settings.raw, "resize") == 0
    assert [line.split(",")[0] for line in folder.marks("resize")] == [
        ONE.server_name,
        TWO.server_name,
    ]
