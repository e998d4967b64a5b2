"""Whether any uuid occurs twice among more rows than memory holds.

A 64-bit hash of each uuid goes to one of a few files by its value, so that equal ones meet in the
same file; each file is then sorted alone. Two uuids that only share a hash are told apart by
whoever has the rows.
"""

import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np
import polars as pl

ROWS_PER_FILE = 4_000_000  # 32 MB of hashes, sorted in memory
SEED = 7


def hash_of(uuid: pl.Expr) -> pl.Expr:
    """What `Repeats` compares: the same within one process."""
    return uuid.hash(SEED)


class Repeats:
    """Collects uuids, then tells which hashes came more than once; use it in a `with` block."""

    def __init__(self, folder: Path, rows: int) -> None:
        """Files lie in a temporary folder under `folder`; about `rows` uuids are expected."""
        self._files = max(1, -(-rows // ROWS_PER_FILE))
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix=".tmp-repeats-", dir=folder)
        self._open = [path.open("wb", buffering=1 << 18) for path in self._paths()]

    def __enter__(self) -> "Repeats":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._open:
            with suppress(OSError):  # a full disk: what is buffered is of no use any more
                file.close()
        self._folder.cleanup()

    def add(self, uuids: pl.Series) -> None:
        """Take note of these."""
        hashes = uuids.hash(SEED).to_numpy()
        if self._files == 1:
            self._open[0].write(hashes.tobytes())
            return
        file_of = hashes % np.uint64(self._files)
        order = np.argsort(file_of, kind="stable")
        hashes, ends = hashes[order], np.searchsorted(file_of[order], np.arange(self._files + 1))
        for file, start, end in zip(self._open, ends[:-1], ends[1:], strict=True):
            file.write(hashes[start:end].tobytes())

    def hashes(self) -> list[int]:
        """Hashes that came more than once; nothing can be added after."""
        self._close()
        found: list[int] = []
        for path in self._paths():
            hashes = np.sort(np.fromfile(path, dtype=np.uint64))
            found.extend(np.unique(hashes[1:][hashes[1:] == hashes[:-1]]).tolist())
        return found

    def _paths(self) -> list[Path]:
        return [Path(self._folder.name) / str(number) for number in range(self._files)]

    def _close(self) -> None:
        for file in self._open:
            file.close()
