"""What one flush commits: a part, renamed into its batch's folder as a whole.

Rules
1. A part is `part-<wave>-<rank>-<k>-<nonce>` (`part-profile-...`: samples, `part-previous-...`:
   copies). The nonce is new for each process, k counts in it: no name is ever used twice, so a part
   that was absorbed and deleted cannot be confused with a later one.
2. It holds rows.parquet (tables.PART_ROWS) and, unless all its rows failed, images.h5.
3. The run's lock is checked after everything is on the disk, right before the rename: a run that
   was taken over commits nothing.
4. A commit that fails keeps its rows: it may be tried again.
"""

import itertools
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from distributed_downloader.checksums import write_sealed
from distributed_downloader.durable import crash_point, fsync_path, whole_folder
from distributed_downloader.paths import Batch
from distributed_downloader.records import Encoded, ErrorClass, Failed, Fetched, Row, Unchanged
from distributed_downloader.storage.image_files import new_image_file, offsets_of
from distributed_downloader.tables import PART_ROWS

PROFILE_WAVE = -1  # samples: their failures do not count as tries
COPIED_WAVE = -2  # images of an earlier folder
_WORDS = {PROFILE_WAVE: "profile", COPIED_WAVE: "previous"}
_WAVES = {word: wave for wave, word in _WORDS.items()}
IMAGES_NAME = "images.h5"
ROWS_NAME = "rows.parquet"

_PART = re.compile(
    r"part-(?P<wave>\d+|profile|previous)-(?P<rank>\d+)-(?P<k>\d+)(-(?P<nonce>\w+))?"
)
_ROW_BYTES = 500  # a guess at what a row without its image weighs, for the buffer's size


@dataclass(frozen=True, slots=True, order=True)
class PartName:
    """Who committed a part, and as its how-manieth."""

    wave: int
    rank: int
    k: int
    nonce: str = ""

    def __str__(self) -> str:
        wave = _WORDS.get(self.wave, self.wave)
        return f"part-{wave}-{self.rank}-{self.k}" + (f"-{self.nonce}" if self.nonce else "")

    @classmethod
    def parse(cls, name: str) -> "PartName | None":
        """The parts of a part's name; None if it is no part."""
        match = _PART.fullmatch(name)
        if match is None:
            return None
        word = match["wave"]
        wave = _WAVES[word] if word in _WAVES else int(word)
        return cls(wave, int(match["rank"]), int(match["k"]), match["nonce"] or "")


class PartNames:
    """Hands out the names of one process's parts: each once, over all its batches."""

    def __init__(self, wave: int, rank: int) -> None:
        self.wave = wave
        self._rank = rank
        self._nonce = uuid.uuid4().hex[:8]
        self._numbers = itertools.count()

    def next(self) -> PartName:
        """A name that no part has had."""
        return PartName(self.wave, self._rank, next(self._numbers), self._nonce)


def list_parts(folder: Path) -> list[Path]:
    """The committed parts of a batch's folder, in the order of waves, ranks and commits."""
    if not folder.is_dir():
        return []
    found = [(PartName.parse(path.name), path) for path in folder.iterdir()]
    return [path for _, path in sorted((name, path) for name, path in found if name is not None)]


@contextmanager
def lock_comes_first(allowed: Callable[[], None]) -> Iterator[None]:
    """Raise LockError instead of what else went wrong, if this run must not write any more.

    Who slept while it was taken over finds its files gone: it is not the disk's fault.
    """
    try:
        yield
    except Exception:
        allowed()
        raise


def _storable(value: Any) -> Any:
    """Text from outside may hold what UTF-8 cannot say: it must not stop a commit."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


class PartWriter:
    """Collects a batch's outcomes until they are committed as one part."""

    def __init__(
        self,
        batch: Batch,
        names: PartNames,
        *,
        keep_original: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.batch = batch
        self._names = names
        self._keep_original = keep_original
        self._clock = clock
        self._clear()

    def _clear(self) -> None:
        self._images: list[tuple[str, Encoded]] = []
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._since = self._clock()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def image_count(self) -> int:
        """Rows that have an image."""
        return len(self._images)

    @property
    def bytes(self) -> int:
        """About what the buffer weighs in memory."""
        return self._bytes

    @property
    def age_s(self) -> float:
        """Seconds since the oldest row came in; 0 when empty."""
        return self._clock() - self._since if self._rows else 0.0

    def add_image(
        self,
        row: Row,
        fetched: Fetched,
        encoded: Encoded,
        times: Mapping[str, datetime | None] | None = None,
    ) -> None:
        """Take a row that has its image; `times`: when it was fetched and validated, if not now."""
        credit = {name: row.meta.get(name) for name in ("license", "source", "title")}
        values = {
            **credit,
            "is_license_full": all(credit.values()),
            "hashsum_original": encoded.hashsum_original,
            "hashsum_resized": encoded.hashsum_resized,
            "original_size": list(encoded.original_size),
            "resized_size": list(encoded.resized_size),
            "file": IMAGES_NAME,
            "index": len(self._images),
            "final_url": fetched.final_url,
            "content_type": fetched.content_type,
            "etag": fetched.etag,
            "last_modified": fetched.last_modified,
            "exif": encoded.exif,
            "warnings": encoded.warnings,
            **(times or {}),
        }
        self._add(row, values)
        self._images.append((row.uuid, encoded))
        self._bytes += len(encoded.data) + len(encoded.original or b"")

    def add_unchanged(self, row: Row, unchanged: Unchanged) -> None:
        """Take a row whose stored image is what its server has: no bytes."""
        seen = {"validated_at": datetime.fromtimestamp(self._clock(), UTC)}
        said = {"etag": unchanged.etag, "last_modified": unchanged.last_modified}
        self._add(row, {**seen, **said})

    def add_error(self, row: Row, failed: Failed, requests: int = 1) -> None:
        """Take a row that has none, after so many requests in this wave.

        A failure counts as a wave tried if it may be retried and the row is to blame; a redirect to
        another group (its target is `failed.final_url`) and a sample of profile never count.
        """
        elsewhere = failed.error_class is ErrorClass.REDIRECT_ELSEWHERE
        counts = failed.retryable and failed.costs_a_try and not elsewhere
        counts = counts and self._names.wave != PROFILE_WAVE
        values = {
            "retry_count": requests - 1,  # of a first wave; the merge over waves adds the firsts
            "error_code": failed.error_code,
            "error_class": failed.error_class.value,
            "error_msg": failed.error_msg,
            "retryable": failed.retryable or elsewhere,
            "final_url": failed.final_url,
            "waves_tried": row.waves_tried + counts,
            "tried_wave": self._names.wave if counts else None,
            "redirects": int(elsewhere),
        }
        self._add(row, values)

    def _add(self, row: Row, values: dict[str, Any]) -> None:
        if not self._rows:
            self._since = self._clock()
        common = {
            "uuid": row.uuid,
            "source_id": row.source_id,
            "identifier": row.identifier,
            "server": row.server,
            "fetched_at": datetime.fromtimestamp(self._clock(), UTC),
            "wave": self._names.wave,
            "asked_wave": self._names.wave if row.known else None,
        }
        self._rows.append({key: _storable(value) for key, value in (common | values).items()})
        self._bytes += _ROW_BYTES

    def commit(self, folder: Path, allowed: Callable[[], None]) -> Path | None:
        """Write what was collected as one part of `folder`, and begin anew; None if it is nothing.

        `allowed` raises LockError if the run must not write any more. Raises StorageError.
        """
        if not self._rows:
            return None
        path = folder / str(self._names.next())
        crash_point("part:before_write")
        with lock_comes_first(allowed), whole_folder(path) as beside:
            if self._images:
                self._write_images(beside / IMAGES_NAME)
            crash_point("part:after_images")
            table = pl.DataFrame(self._rows, schema=PART_ROWS)
            write_sealed(beside / ROWS_NAME, table)
            for file in beside.iterdir():
                fsync_path(file)
            allowed()
            crash_point("part:before_rename")
        crash_point("part:after_rename")
        self._clear()
        return path

    def _write_images(self, path: Path) -> None:
        data = [encoded.data for _, encoded in self._images]
        with new_image_file(path, self.batch, [uuid for uuid, _ in self._images]) as file:
            file.lay_out("data", offsets_of([len(item) for item in data]))
            file.append_all("data", data)
            if self._keep_original:
                originals = [encoded.original or b"" for _, encoded in self._images]
                file.lay_out("original", offsets_of([len(item) for item in originals]))
                file.append_all("original", originals)
