"""Lists that live elsewhere: `path_to_input` as an address that fsspec knows (s3, hf, https, ...).

The files are copied beside what is made of them, read like any others, and removed again: a list
is read more than once (its hash, its header, its rows), and it may change on its server meanwhile.
What identifies a file there is its size and what its server calls its version (an ETag, a time).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any

from distributed_downloader.configuration.config import ADDRESS
from distributed_downloader.errors import InputError
from distributed_downloader.lists.inputs import is_table
from distributed_downloader.settings import Settings

_VERSIONS = ("ETag", "etag", "sha", "LastModified", "last_modified", "mtime", "created")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a list that lives elsewhere."""

    address: str
    bytes: int | None  # None: its server does not say
    version: str  # empty: its server does not say


def is_remote(path_to_input: str) -> bool:
    """Whether this is an address, and not a path of this machine."""
    return bool(ADDRESS.match(path_to_input))


def remote_files(settings: Settings) -> list[RemoteFile]:
    """What the address names now: a file, all below a folder, or what a glob matches; sorted.

    Raises InputError if nothing is there, or the server cannot be asked.
    """
    address = settings.path_to_input
    try:
        files = _files(address, settings.input_options)
    except Exception as error:  # each file system raises what its own libraries do
        raise _unreadable(address, error) from error
    if not files:
        raise InputError(f"There is nothing at {address}: give the address of a list that exists.")
    return files


def copy_here(settings: Settings, files: Sequence[RemoteFile], folder: Path) -> list[Path]:
    """Each file below `folder`, in its place among the others. Raises InputError."""
    import fsspec  # noqa: PLC0415 - half a second, and most lists are here

    base = os.path.commonpath([os.path.dirname(file.address) for file in files])  # noqa: PTH120
    copies: list[Path] = []
    for file in files:
        place = file.address[len(base) :].partition("?")[0].split("/")
        copies.append(folder.joinpath(*(part for part in place if part not in ("", "..", "."))))
        copies[-1].parent.mkdir(parents=True, exist_ok=True)
        try:
            system, path = fsspec.core.url_to_fs(file.address, **settings.input_options)
            system.get_file(path, str(copies[-1]))
        except Exception as error:  # as above
            raise _unreadable(file.address, error) from error
        _check_size(file, copies[-1].stat().st_size)
    return copies


@contextmanager
def named_by_address(files: Sequence[RemoteFile], copies: Sequence[Path]) -> Iterator[None]:
    """What is said of a copy is said of the file that it was made of."""
    try:
        yield
    except InputError as error:
        text = str(error)
        for file, copy in zip(files, copies, strict=True):
            text = text.replace(str(copy), file.address)
        raise InputError(text) from error


def _check_size(file: RemoteFile, came: int) -> None:
    if file.bytes is not None and came != file.bytes:
        raise InputError(
            f"Of {file.address} {came} bytes of {file.bytes} came: run the same command again."
        )


def _files(address: str, options: Mapping[str, Any]) -> list[RemoteFile]:
    import fsspec  # noqa: PLC0415 - as above

    system, path = fsspec.core.url_to_fs(address, **options)
    if address.lower().startswith("http"):
        paths = [path]
    elif has_magic(path):
        paths = [each for each in system.glob(path) if system.isfile(each)]
    elif system.isfile(path):
        paths = [path]
    else:
        below = {each: PurePosixPath(each).relative_to(path) for each in system.find(path)}
        paths = [each for each, place in below.items() if is_table(place)]
    return [_described(system, each) for each in sorted(paths)]


def _described(system: Any, path: str) -> RemoteFile:
    said = system.info(path)
    version = next((str(said[name]) for name in _VERSIONS if said.get(name)), "")
    return RemoteFile(system.unstrip_protocol(path), said.get("size"), version)


def _unreadable(address: str, error: Exception) -> InputError:
    cause = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(
        f"Cannot read {address}: {cause}. Is the address right, and are its credentials in the "
        "environment (or input_options: {anon: true} for a public bucket)?"
    )
