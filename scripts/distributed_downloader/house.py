"""Where the workflow lies: the checkout's root, or `distributed_downloader/house` in a wheel."""

from pathlib import Path

from distributed_downloader.errors import ConfigError

SCHEMA = Path("config") / "config.schema.yaml"


def house() -> Path:
    """The folder that holds workflow/, rules/, scripts/, profiles/ and config/."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent.parent, package / "house"):
        if (folder / SCHEMA).is_file():
            return folder
    raise ConfigError(
        f"{SCHEMA} is neither in {package.parent.parent} nor in {package / 'house'}: "
        "the installation is incomplete, install it again."
    )
