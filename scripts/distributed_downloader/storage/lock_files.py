"""The few steps on files that a lock is made of, each atomic on any file system with rename.

A lock file is created whole and never rewritten; who wants it gone renames it away to a unique
name, looks at what that was, and puts it back if it was not what it took it for.
"""

import errno
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from distributed_downloader.errors import LockError
from distributed_downloader.storage.holder import Holder

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


@dataclass(frozen=True, slots=True)
class Seen:
    """A lock file at one look. `beat` only ever gets compared with another look's."""

    content: bytes
    beat: tuple[int, int]  # inode, modification time

    @property
    def holder(self) -> Holder | None:
        """Who it says it is; None for a broken file."""
        return Holder.from_bytes(self.content)

    def is_same_lock(self, other: "Seen") -> bool:
        """Whether two looks saw one acquisition; broken files have nothing but their inode."""
        if self.holder is None:
            return (self.content, self.beat) == (other.content, other.beat)
        return self.content == other.content


class LockFiles:
    """Steps on the real disk."""

    def read(self, path: Path) -> Seen | None:
        """Open (which makes NFS ask the server), look, read."""
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                return Seen(file.read(), (status.st_ino, status.st_mtime_ns))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ESTALE:  # NFS: it was renamed or removed while we opened it
                return None
            raise LockError(f"Cannot read the lock {path}: {error.strerror}.") from error

    def create(self, path: Path, content: bytes) -> bool:
        """Make the file, whole, if there is none; False if there is one."""
        beside = path.with_name(f".tmp-{uuid.uuid4().hex}-{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_new(beside, content)
            return _link(beside, path, content)
        except OSError as error:
            raise LockError(
                f"Cannot write the lock {path}: {error.strerror or error}. "
                "Make room or mend the permissions there, or choose another path_to_output."
            ) from error
        finally:
            with suppress(OSError):  # of a disk that takes nothing, what is raised says more
                beside.unlink(missing_ok=True)

    def rename(self, path: Path, to: Path) -> bool:
        """False if it is no longer there."""
        try:
            path.rename(to)
        except FileNotFoundError:
            return False
        return True

    def remove(self, path: Path) -> None:
        """Remove it if it is there."""
        path.unlink(missing_ok=True)

    def siblings(self, path: Path, mark: str) -> list[Path]:
        """Files beside the lock that are named after it and this mark."""
        return sorted(path.parent.glob(f"{path.name}.{mark}-*"))

    def beat(self, path: Path, content: bytes) -> None:
        """Change the file's time, if it is (still) this file: another's heart is not ours."""
        try:
            with path.open("rb") as file:
                if file.read() == content:
                    os.utime(file.fileno())
        except OSError:
            pass  # a hiccup of the disk; if the lock is lost, `check` finds out


def _write_new(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _link(beside: Path, path: Path, content: bytes) -> bool:
    try:
        os.link(beside, path)
    except FileExistsError:
        # NFS may lose its own answer and find on repeating that the link, ours, exists
        return beside.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create_without_links(path, content)
    return True


def _create_without_links(path: Path, content: bytes) -> bool:
    """Exclusive too, but for an instant the file is empty: readers take that for a broken one."""
    try:
        _write_new(path, content)
    except FileExistsError:
        return False
    return True
