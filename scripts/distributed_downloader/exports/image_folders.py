"""Plain files: a folder for each partition, with its images and metadata.jsonl.

`file_name` in metadata.jsonl is what Hugging Face's ImageFolder joins on.
"""

import os
from collections.abc import Iterable

from distributed_downloader.durable import whole_tree
from distributed_downloader.exports.blocks import Block
from distributed_downloader.exports.tar_shards import key_of
from distributed_downloader.exports.targets import Target

METADATA = "metadata.jsonl"


def write_folder(target: Target, name: str, blocks: Iterable[Block]) -> int:
    """Write blocks with JSON as the folder `name`, in place of one that is there; how many."""
    if target.folder is None:
        return _upload(target, name, blocks)
    lines: list[bytes] = []
    with whole_tree(target.folder / name) as beside:
        for block in blocks:
            names = file_names(block)
            for file, image in zip(names, block.images, strict=True):
                _write(f"{beside}/{file}", image)
            lines += described(block, names)
        (beside / METADATA).write_bytes(b"".join(lines))
    return len(lines)


def _write(path: str, body: memoryview) -> None:
    """Half the time of pathlib's: it is done for each image."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        while body:
            body = body[os.write(descriptor, body) :]
    finally:
        os.close(descriptor)


def _upload(target: Target, name: str, blocks: Iterable[Block]) -> int:
    """Object stores rename no folders: metadata.jsonl comes last, and says that it is whole."""
    target.remove(name)
    lines: list[bytes] = []
    for block in blocks:
        names = file_names(block)
        bodies = map(bytes, block.images)
        target.write({f"{name}/{file}": body for file, body in zip(names, bodies, strict=True)})
        lines += described(block, names)
    target.write({f"{name}/{METADATA}": b"".join(lines)})
    return len(lines)


def file_names(block: Block) -> list[str]:
    """What the file of each image is called."""
    keys = map(key_of, block.rows["uuid"].to_list())
    return [f"{key}.{suffix}" for key, suffix in zip(keys, block.suffixes, strict=True)]


def described(block: Block, names: list[str]) -> list[bytes]:
    """The lines of metadata.jsonl."""
    return [
        f'{{"file_name":"{name}",{line[1:]}\n'.encode()
        for name, line in zip(names, block.rows["json"].to_list(), strict=True)
    ]
