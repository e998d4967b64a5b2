"""What stages and waves wrote down about servers and time, read for the summary."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from polars import selectors

from distributed_downloader.accounts.counts import WaveImages
from distributed_downloader.durable import read_json
from distributed_downloader.errors import ConfigError
from distributed_downloader.paths import OutputPaths
from distributed_downloader.tables import LEARNED
from distributed_downloader.waves.memories import PROFILE_FOLDER, read_audits
from distributed_downloader.waves.profile_table import Profile, read_profiles

_log = logging.getLogger(__name__)


def known_profiles(paths: OutputPaths) -> Mapping[str, Profile]:
    """What profile measured, by server; none without a table, or with one that makes no sense."""
    try:
        return read_profiles(paths) if paths.profiles_table.is_file() else {}
    except ConfigError as error:  # the plan has said so; accounts are written all the same
        _log.warning("%s", error)
        return {}


def read_learned(paths: OutputPaths) -> pl.DataFrame:
    """LEARNED of profile (wave -1) and all waves; of one killed, as far as it wrote it down."""
    profile = (-1, paths.schedules / PROFILE_FOLDER)
    tables = [
        read_audits(folder).with_columns(wave=pl.lit(wave, pl.Int64))
        for wave, folder in (profile, *wave_folders(paths))
    ]
    none = pl.DataFrame(schema=LEARNED).with_columns(wave=pl.lit(None, pl.Int64))
    learned = pl.concat([none, *tables], how="diagonal")
    return learned.with_columns(selectors.numeric().fill_null(0))


def wave_folders(paths: OutputPaths) -> list[tuple[int, Path]]:
    """The folders of planned waves, in their order."""
    folders = [path for path in paths.schedules.glob("*") if path.name.isdecimal()]
    return sorted((int(folder.name), folder) for folder in folders)


def asking_folders(paths: OutputPaths) -> list[Path]:
    """Where those who asked servers wrote down what they did: profile, and the waves."""
    return [paths.schedules / PROFILE_FOLDER, *(folder for _, folder in wave_folders(paths))]


def by_group(learned: pl.DataFrame) -> list[dict[str, Any]]:
    """One record a group, of profile and all waves: what it was asked, what held, what it refused.

    Peaks are the highest of any of them, each with the limit and burst it stood under; limit, rate
    and blocks are the last one's.
    """
    table = (
        learned.sort("wave")
        .with_columns(used=pl.col("peak_1s") / (pl.col("limit") + pl.col("burst")))
        .group_by("group")
        .agg(
            pl.col("limit", "rate", "blocked_until", "block_cause").last(),
            pl.col("requests", "images", "refusals", "blocks", "bytes").sum(),
            pl.col("peak_1s", "limit", "burst")
            .sort_by("used", nulls_last=False)
            .last()
            .name.prefix("most_"),
            pl.max("peak_10s"),
        )
        .with_columns(
            peak_1s=pl.col("most_peak_1s"),
            allowed_1s=pl.col("most_limit") + pl.col("most_burst"),
        )
        .drop("most_peak_1s", "most_limit", "most_burst")
        .sort(["requests", "group"], descending=[True, False])
    )
    return list(table.iter_rows(named=True))


def read_waves(paths: OutputPaths, images: Mapping[int, WaveImages]) -> list[dict[str, Any]]:
    """One record a wave that began: seconds, ranks, images, requests, refusals, bytes.

    Images are the ledger's: stored ones whose row says they came with this wave. A wave that was
    cut short is timed until its last stored image.
    """
    learned = read_learned(paths)
    records = []
    for wave, folder in wave_folders(paths):
        progress = read_json(folder / "progress.json") or {}
        stored = images.get(wave, WaveImages(0, 0.0, 0.0))
        mine = learned.filter(pl.col("wave") == wave)
        if not progress and not stored.images and mine.is_empty():
            continue
        plan = read_json(folder / "plan.json") or {}
        records.append(
            {
                "wave": wave,
                "seconds": round(_seconds(folder, progress, stored), 1),
                "ranks": progress.get("ranks") or plan.get("ranks"),
                "nodes": progress.get("nodes", 0),
                "node_hours": progress.get("node_hours", 0.0),
                "idle_node_hours": progress.get("idle_node_hours", 0.0),
                "images": stored.images,
                "finished": bool(progress),
                "predicted_s": plan.get("predicted_s"),
                "lower_bound_s": plan.get("lower_bound_s"),
                **{name: int(mine[name].sum()) for name in ("requests", "refusals", "bytes")},
            }
        )
    return records


def _seconds(folder: Path, progress: Mapping[str, Any], stored: WaveImages) -> float:
    if progress:
        return float(progress["ended"] - progress["started"])
    mark = read_json(folder / "started.json") or {}
    return max(0.0, stored.last - float(mark.get("started", stored.first)))
