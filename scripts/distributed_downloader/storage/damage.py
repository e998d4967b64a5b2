"""What is wrong with a batch's files, found by reading every byte that matters; nothing is changed.

A file that cannot be read at all (EIO, no permission) is not damaged: that is an OSError.

1. A table, of the batch or of a part, is what its checksum says.
2. successes.parquet and errors.parquet are both there, or neither: consolidation leaves both. (Cut
   between the two it leaves the first, and all the parts that it names.)
3. An image lies where its row says, under its uuid, and its bytes have the hash that the row says.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from distributed_downloader.checksums import is_whole
from distributed_downloader.errors import FolderError
from distributed_downloader.storage.batch_files import (
    ERRORS_NAME,
    REMOVED_NAME,
    SUCCESSES_NAME,
    absorbed_by,
)
from distributed_downloader.storage.image_files import CHUNK_BYTES, ImageFile, uuids_of
from distributed_downloader.storage.parts import ROWS_NAME, list_parts

TABLES = (SUCCESSES_NAME, ERRORS_NAME, REMOVED_NAME)
CHANGED = "is not what was written"
MISSING = "is missing"
PLACES = ("uuid", "file", "index", "hashsum_resized", "hashsum_original")  # of tables.SUCCESSES


@dataclass(frozen=True, slots=True)
class Damage:
    """A file, and what is wrong with it."""

    path: Path
    what: str
    uuids: tuple[str, ...] = ()  # of an image file: the rows that lose their image

    def __str__(self) -> str:
        rows = f" ({len(self.uuids)} images)" if self.uuids else ""
        return f"{self.path} {self.what}{rows}"


def damaged_tables(folder: Path) -> list[Damage]:
    """The tables of a batch, and of its parts, that cannot be believed. Raises OSError."""
    there = [folder / name for name in TABLES if (folder / name).exists()]
    found = [Damage(path, CHANGED) for path in there if not is_whole(path)]
    names = {path.name for path in there} - {damage.path.name for damage in found}
    absorbed = {
        name: absorbed_by(folder / name) if name in names else frozenset[str]()
        for name in (SUCCESSES_NAME, ERRORS_NAME)
    }
    parts = list_parts(folder)
    found += _without_the_other(folder, {path.name for path in there}, absorbed, parts)
    done = absorbed[SUCCESSES_NAME] & absorbed[ERRORS_NAME]
    found += _damaged_parts([part for part in parts if part.name not in done])
    return found


def _without_the_other(
    folder: Path, there: set[str], absorbed: dict[str, frozenset[str]], parts: list[Path]
) -> Iterator[Damage]:
    if ERRORS_NAME in there and SUCCESSES_NAME not in there:
        yield Damage(folder / SUCCESSES_NAME, MISSING)
    was_cut = absorbed[SUCCESSES_NAME] <= {part.name for part in parts}
    if SUCCESSES_NAME in there and ERRORS_NAME not in there and not was_cut:
        yield Damage(folder / ERRORS_NAME, MISSING)


def _damaged_parts(parts: list[Path]) -> Iterator[Damage]:
    for part in parts:
        rows = part / ROWS_NAME
        if not rows.exists():
            yield Damage(rows, MISSING)
        elif not is_whole(rows):
            yield Damage(rows, CHANGED)


def damaged_images(folder: Path, images: pl.DataFrame) -> list[Damage]:
    """The image files that do not hold what these rows (PLACES) say, with the rows they cost.

    Raises OSError.
    """
    found = []
    for (file,), rows in images.group_by("file", maintain_order=True):
        path = folder / str(file)
        try:
            lost = _lost(path, rows.sort("index"))
            what = CHANGED
        except FileNotFoundError:
            lost, what = tuple(rows["uuid"]), MISSING
        except FolderError:
            _read_through(path)
            lost, what = tuple(rows["uuid"]), "is cut short or no image file"
        if lost:
            found.append(Damage(path, what, lost))
    return found


def _read_through(path: Path) -> None:
    """Raise OSError if it is the disk that does not give the file: then nothing is known of it."""
    with path.open("rb") as file:
        while file.read(CHUNK_BYTES):
            pass


def _lost(path: Path, rows: pl.DataFrame) -> tuple[str, ...]:
    uuids = uuids_of(path)
    with ImageFile(path) as file:
        readable = file.whole_items("data") & file.whole_items("original")
        count = min(len(file), len(uuids))
        return tuple(
            uuid
            for uuid, index, stored, original in rows.select(
                "uuid", "index", "hashsum_resized", "hashsum_original"
            ).iter_rows()
            if not (0 <= index < count and readable[index] and uuids[index] == uuid)
            or not _has_hashes(file, index, stored, original)
        )


def _has_hashes(file: ImageFile, index: int, stored: str, original: str) -> bool:
    """An original that is empty was not kept, or is the image itself."""
    if _md5(file.read(index)) != stored:
        return False
    body = file.read(index, "original") if file.has_originals else b""
    return not body or _md5(body) == original


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
