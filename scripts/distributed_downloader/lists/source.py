"""What an output folder was made from, and whether this run may go on in it.

The content hash is SHA-256, of the files as they lie there: about 1.5 GB a second where the
processor helps (nearly all do), on its own thread while the input is read.
"""

import glob
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

from distributed_downloader.configuration.schema import with_defaults
from distributed_downloader.errors import FolderError, InputError
from distributed_downloader.lists.archives import what_matters
from distributed_downloader.lists.generations import Generation
from distributed_downloader.lists.inputs import list_files
from distributed_downloader.lists.remote import (
    RemoteFile,
    copy_here,
    is_remote,
    named_by_address,
    remote_files,
)
from distributed_downloader.lists.sources import source_named
from distributed_downloader.settings import Settings

_log = getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One file of the input."""

    path: str
    bytes: int
    mtime_ns: int
    sha256: str
    version: str = ""  # of a file that lives elsewhere, as its server says it


def fingerprint_of_copy(file: RemoteFile, copy: Path) -> Fingerprint:
    """Of a file that lives elsewhere, by the copy that was read."""
    return Fingerprint(file.address, copy.stat().st_size, 0, sha256(copy), file.version)


@contextmanager
def gathered(
    settings: Settings, scratch: Path
) -> Iterator[tuple[list[Path], list[Callable[[], Fingerprint]]]]:
    """The input's files to read, copied here if they live elsewhere, and how to identify each.

    Raises InputError, also in the block, by the names that the user knows.
    """
    if not is_remote(settings.path_to_input):
        files = list_files(settings)
        yield files, [partial(fingerprint, file) for file in files]
        return
    remote = remote_files(settings)
    copies = copy_here(settings, remote, scratch / "copies")
    files = what_matters(copies, source_named(settings.initializer_type).archive)
    with named_by_address(remote, copies):
        yield (
            files,
            [partial(fingerprint_of_copy, *each) for each in zip(remote, copies, strict=True)],
        )


def fingerprint(path: Path) -> Fingerprint:
    """Read and hash the file. Raises InputError if it changes meanwhile."""
    before = path.stat()
    digest = sha256(path)
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise InputError(f"{path} changed while it was read; run again when it is written.")
    return Fingerprint(str(path.absolute()), after.st_size, after.st_mtime_ns, digest)


def sha256(path: Path) -> str:
    """The file's hash in hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error


def what_fixes(settings: Settings) -> dict[str, Any]:
    """The settings that a folder cannot change any more, by the name that the config gives them."""
    images = settings.images
    return {
        "batch_size": settings.batch_size,
        "initializer_type": settings.initializer_type,
        "included_sources": list(settings.included_sources),
        "filters": dict(settings.raw["filters"]),
        "columns": dict(settings.columns),
        "image_size": images.image_size,
        "images.mode": images.mode,
        "images.format": images.format,
        "images.quality": images.quality,
        "images.keep_original": images.keep_original,
    }


def source_of(
    settings: Settings, files: list[Fingerprint], counts: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of source.json."""
    return {
        "format_version": 1,
        "path_to_input": settings.path_to_input,
        "files": [asdict(file) for file in files],
        "settings": what_fixes(settings),
        "counts": dict(counts),
    }


def check_folder(settings: Settings) -> None:
    """Raise FolderError if the output folder was made in a way that this run cannot go on with.

    Another list can be gone on with (see `growth`), as long as the table of batches is there. Quiet
    if nothing is partitioned yet.
    """
    current = Generation.of(settings.paths)
    source = current.source
    if source is None:
        return
    for name, then, now in _changed(source["settings"], what_fixes(settings)):
        raise FolderError(
            f"{settings.paths.root} was made with {name} = {then!r}, not {now!r}: put {name} back, "
            "or give another path_to_output."
        )
    is_whole = current.number > 0 or settings.paths.partitions.exists()
    if not is_whole and not is_same_list(settings, source):
        names = ", ".join(Path(file["path"]).name for file in source["files"][:3])
        raise FolderError(
            f"{settings.paths.root} has lost its partitions.parquet, and was made from another "
            f"list ({names}) than {settings.path_to_input} is now: put that list back, or give "
            "another path_to_output."
        )


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Settings that are others now: name, value then, value now.

    What a folder does not name that was made before there was such a setting, was at its default.
    """
    defaults = with_defaults({})
    for name, value in then.items():
        if isinstance(value, Mapping):
            was, section = {**defaults[name], **value}, now.get(name, {})
            each = ((f"{name}.{key}", was[key], section.get(key)) for key in was)
            yield from (change for change in each if change[1] != change[2])
        elif now.get(name) != value:
            yield name, value, now.get(name)


def is_same_list(settings: Settings, source: Mapping[str, Any]) -> bool:
    """Whether `path_to_input` is what this source.json was written of.

    A file of the same size and time is taken for the same; any other is hashed, so that a list
    that was only touched, moved or renamed is the same, and so is one that is gone: all its rows
    are in the folder.
    """
    if _is_gone(settings.path_to_input) and settings.path_to_input == source["path_to_input"]:
        return True
    if is_remote(settings.path_to_input):
        return _is_same_address(source["files"], settings)
    return _is_same_input(source["files"], list_files(settings))


def _is_gone(path_to_input: str) -> bool:
    return (
        not is_remote(path_to_input)
        and not Path(path_to_input).exists()
        and not glob.has_magic(path_to_input)
    )


def _is_same_input(then: list[dict[str, Any]], files: list[Path]) -> bool:
    if Counter(file["bytes"] for file in then) != Counter(path.stat().st_size for path in files):
        return False
    known = {(file["path"], file["bytes"], file["mtime_ns"]): file["sha256"] for file in then}
    return Counter(file["sha256"] for file in then) == Counter(
        known.get(_identity(path)) or sha256(path) for path in files
    )


def _is_same_address(then: list[dict[str, Any]], settings: Settings) -> bool:
    """A server that cannot be asked is no reason to stop: all rows are in the folder."""
    try:
        now = remote_files(settings)
    except InputError as error:
        _log.warning("%s The rows that %s has are gone on with.", error, settings.paths.root)
        return any(file["path"].startswith(_plain(settings.path_to_input)) for file in then)
    known = {(file["path"], file.get("version", "")) for file in then}
    return known == {(file.address, file.version) for file in now}


def _plain(address: str) -> str:
    """An address up to its first wildcard."""
    return re.split(r"[*?\[]", address)[0]


def _identity(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path.absolute()), stat.st_size, stat.st_mtime_ns
