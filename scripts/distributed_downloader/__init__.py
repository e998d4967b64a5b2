"""Turn a list of image URLs into an image dataset: politely, and restartable at any instant.

Its rooms, each of which imports from those before it only (what all of them need lies beside this
file): urls, configuration, lists, courtesy, wire, admission, codec, storage, waves, accounts,
likeness, exports, tools, toolbox, running. `fleet` stands apart: image servers to try all this on.

Hundreds of ranks import this package at once from a shared disk, so nothing is loaded before it is
asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed_downloader.running.launch import apply_tools, download_images
    from distributed_downloader.storage.dataset import Dataset

__all__ = ["Dataset", "__version__", "apply_tools", "download_images"]

__version__ = "0.1.0"

_HOMES = {
    "Dataset": "storage.dataset",
    "apply_tools": "running.launch",
    "download_images": "running.launch",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
