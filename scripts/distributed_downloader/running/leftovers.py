"""What runs that died left in the output folder's root: removed when the next one begins.

1. Files and folders that never got their name, unless somebody may be at work on them: lock files,
   which others may be making right now, and the progress file of a process that lives.
2. Derived files that are empty or damaged: they are as good as none, and in everybody's way.
"""

import os
import re

from distributed_downloader.durable import ORPHAN_PREFIX, read_json, remove_orphans
from distributed_downloader.errors import UnreadableError
from distributed_downloader.paths import OutputPaths

_NAME = re.compile(re.escape(ORPHAN_PREFIX) + r"(\w+)-(.+)")  # who, or a random word; what


def remove_leftovers(paths: OutputPaths) -> None:
    """Leave nothing half made in the root; for who holds the run lock, once no writer is left."""
    remove_orphans(paths.root, lambda name: _is_dead(name, paths))
    for derived in (paths.left, paths.checkpoint):
        try:
            read_json(derived)
        except UnreadableError:
            derived.unlink(missing_ok=True)


def _is_dead(orphan: str, paths: OutputPaths) -> bool:
    match = _NAME.fullmatch(orphan)
    if match is None:
        return True
    if match[2].startswith((paths.run_lock.name, paths.writer_lock.name)):
        return False
    is_progress = match[2] == paths.checkpoint.name and match[1].isdecimal()
    return not (is_progress and _is_alive(int(match[1])))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
