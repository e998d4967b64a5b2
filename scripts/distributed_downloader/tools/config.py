"""What a step is made with, by the name that the predecessor's tools import."""

from distributed_downloader.tools.base import ToolConfig as Config

__all__ = ["Config"]
