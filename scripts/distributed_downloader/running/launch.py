"""The workflow, started from Python: `download_images("my.yaml")`, or `apply_tools` for one tool.

Snakemake runs as a process of its own, in the caller's working directory.
"""

import hashlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed_downloader.configuration.config import load_settings
from distributed_downloader.errors import ConfigError, DownloaderError
from distributed_downloader.house import house
from distributed_downloader.running.outcome import Outcome, plain
from distributed_downloader.running.relay import relay
from distributed_downloader.tools.registry import check_names

# -P: nothing in the caller's working directory may pass for a module of Snakemake's
SNAKEMAKE = (sys.executable, "-P", "-m", "snakemake")
DEFAULT_PROFILE = "local"
_LEVELS = {"error": logging.ERROR, "WARNING": logging.WARNING}  # by a line's first word


def download_images(
    config_path: str | Path,
    logger: logging.Logger | None = None,
    *,
    profile: str | Path | None = None,
    targets: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Run the whole workflow on this config, or continue it where it stopped.

    `profile` is `local` (when None), `slurm`, or a folder with a Snakemake profile of yours;
    `targets` as on the command line (none = everything); `overrides` are settings over the file's,
    nested as there. What Snakemake says goes to `logger`, or through to stderr.

    Raises DownloaderError with the sentence a person needs when the run does not succeed; a
    KeyboardInterrupt once the run has stored what it has.
    """
    config = Path(config_path).absolute()
    if not config.is_file():
        raise ConfigError(f"There is no config file {config}: copy config/config.yaml there first.")
    configs = [config, *_written(overrides)]
    run_workflow(_command(configs, profile or DEFAULT_PROFILE, targets), logger)


def apply_tools(
    config_path: str | Path,
    tool_name: str,
    logger: logging.Logger | None = None,
    *,
    profile: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Run one tool over the dataset of this config, or continue it; what is not downloaded yet, is.

    Arguments and errors as `download_images`. Raises ConfigError for a tool that is not there.
    """
    config = Path(config_path).absolute()
    folder = load_settings(config).raw["tools_parameters"]["folder"] if config.is_file() else ""
    folder = (overrides or {}).get("tools_parameters", {}).get("folder", folder)
    check_names([tool_name], folder)
    download_images(config, logger, profile=profile, targets=[tool_name], overrides=overrides)


def _command(configs: Sequence[Path], profile: str | Path, targets: Sequence[str]) -> list[str]:
    home = house()
    for target in targets:
        if target.startswith("-"):
            raise ConfigError(f"{target!r} is no target: options of Snakemake go into a profile.")
    return [
        *SNAKEMAKE,
        *targets,  # before --configfile, which takes all that follow
        f"--snakefile={home / 'workflow' / 'Snakefile'}",
        f"--workflow-profile={home / 'profiles' / 'default'}",
        f"--profile={_profile(profile, home)}",
        "--configfile",
        *map(str, configs),
    ]


def _profile(profile: str | Path, home: Path) -> str:
    """The folder of that name here, or ours, or else Snakemake shall look."""
    for folder in (Path(profile), home / "profiles" / profile):
        if folder.is_dir():
            return str(folder.absolute())
    return str(profile)


def _written(overrides: Mapping[str, Any] | None) -> list[Path]:
    """The overrides as a config file: `--config` would turn nested numbers into text.

    It lies where jobs on other nodes find it too, under a name that says its content.
    """
    if not overrides:
        return []
    text = json.dumps(overrides, indent=1, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    file = Path(".snakemake", f"overrides-{digest}.json").absolute()
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"Cannot write {file}: {error.strerror}. Start from a folder that you may write to."
        ) from error
    return [file]


def run_workflow(command: Sequence[str], logger: logging.Logger | None = None) -> None:
    """Run Snakemake to its end, passing on what it says. Raises as `download_images`."""
    outcome = Outcome()

    def hear(line: str) -> None:
        outcome.hear(line)
        if logger is not None and (text := plain(line)).strip():
            logger.log(_LEVELS.get(text.partition(":")[0], logging.INFO), "%s", text)

    returncode = relay(command, hear, sys.stderr if logger is None else None)
    if returncode != 0:
        raise DownloaderError(outcome.sentence(returncode))
