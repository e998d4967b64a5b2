"""Plan a wave: its schedule and plan; without --wave only say how long the work will take."""

import argparse
import sys
from pathlib import Path

from distributed_downloader.configuration.config import load_settings
from distributed_downloader.logs import reporting_errors, start_logging, tell
from distributed_downloader.waves.due import first_wave
from distributed_downloader.waves.planning import (
    plan_next_wave,
    plan_summary,
    tell_costs,
    tell_plan,
    wait_for_turn,
    write_plan,
)
from distributed_downloader.waves.profile_table import read_profiles
from distributed_downloader.waves.renewal import write_again
from distributed_downloader.wording import count, duration


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the effective config")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--wave", type=int, help="number of the wave; none: only tell")
    parser.add_argument("--first", type=int, default=0, help="number of this run's first wave")
    return parser.parse_args()


def main() -> None:
    args = parse()
    with reporting_errors():
        settings = load_settings(args.config)
        start_logging(args.log, settings.logger_level, stage="schedule")
        if args.wave in (None, args.first):
            write_again(settings, first_wave(settings.paths))
        if args.wave is None:
            tell_plan(plan_next_wave(settings), sys.stdout)
            tell_costs(read_profiles(settings.paths), sys.stdout)
            return
        wait_for_turn(settings, args.wave - args.first)
        plan = plan_next_wave(settings)
        write_plan(settings, args.wave, plan)
        summary = plan_summary(plan)
        tell(
            f"wave {args.wave}: {count(summary['rows'], 'row')} of "
            f"{count(summary['groups'], 'group')}, {count(summary['ranks'], 'rank')}, "
            f"about {duration(summary['predicted_s'])}"
        )


if __name__ == "__main__":
    main()
