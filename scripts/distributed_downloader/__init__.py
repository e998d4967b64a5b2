"""Turn a list of image URLs into an image dataset: politely, and restartable at any instant.

Hundreds of ranks import this package at once from a shared disk, so nothing is loaded before it is
asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed_downloader.dataset import Dataset
    from distributed_downloader.launch import download_images

__all__ = ["Dataset", "__version__", "download_images"]

__version__ = "0.1.0"

_HOMES = {"Dataset": "dataset", "download_images": "launch"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
