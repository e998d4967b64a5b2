"""What verify does: recount, then write what is derived from the count, in this order.

ledger.parquet (only if the sums match), left.json, summary.json. At last what the waves proved of
their own politeness is held against the budgets that they went by.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from distributed_downloader.accounts.history import asking_folders
from distributed_downloader.accounts.ledger import NAMED, GroupOf, write_ledger
from distributed_downloader.accounts.summary import Summary, write_summary
from distributed_downloader.courtesy.audit import over_budget
from distributed_downloader.courtesy.groups import group_of
from distributed_downloader.errors import DamageError, PolitenessError
from distributed_downloader.paths import OutputPaths
from distributed_downloader.settings import Settings
from distributed_downloader.waves.left import (
    Blocks,
    LeftRows,
    no_blocks,
    rules_of_today,
    write_left,
)
from distributed_downloader.waves.memories import read_audits
from distributed_downloader.wording import count

_log = logging.getLogger(__name__)


def verify_dataset(
    settings: Settings,
    group_of: GroupOf | None = None,
    load_blocks: Callable[[], Blocks] = no_blocks,
) -> Summary:
    """Account for every input row; `group_of` a server, None: as the settings say.

    Raises LedgerError if the files do not add up: then nothing is written. Once everything is,
    raises DamageError if stored files were gone or changed, and PolitenessError if a recorded peak
    is over its budget.
    """
    group_of = group_of or known_groups(settings)
    counts = write_ledger(settings, group_of)
    rules = rules_of_today(settings)
    left = write_left(settings.paths, counts.left, load_blocks(), rules=rules)
    summary = write_summary(settings, counts, left, group_of)
    _complain(counts.damages, counts.left)
    check_audits(settings.paths)
    return summary


def _complain(damages: Sequence[str], left: Mapping[str, LeftRows]) -> None:
    for damage in damages:
        _log.error("%s", damage, extra={"told": True})
    if damages:
        rows = sum(group.rows for group in left.values())
        more = f"; and {len(damages) - NAMED} more, see the log" if len(damages) > NAMED else ""
        raise DamageError(
            f"Stored files are damaged: {'; '.join(damages[:NAMED])}{more}. They are out of use, "
            f"and {count(rows, 'row')} left: run the same command again to fetch what is lost."
        )


def check_audits(paths: OutputPaths) -> None:
    """Raise PolitenessError if a wave, or profile, asked a group for more than its budget.

    A wave that was killed is judged by what it wrote while it ran.
    """
    found = [
        (folder, sentence)
        for folder in asking_folders(paths)
        for row in read_audits(folder).iter_rows(named=True)
        if (sentence := over_budget(row))
    ]
    for folder, sentence in found:
        _log.error("%s: %s", folder, sentence)
    if found:
        folder, sentence = found[0]
        more = f" So were {len(found) - 1} others, see the log." if len(found) > 1 else ""
        raise PolitenessError(
            f"{sentence}{more} This is a fault of this program: please report it, with "
            f"{folder}. The dataset is whole; without that folder's record verify passes."
        )


def known_groups(settings: Settings) -> GroupOf:
    """A server's group by the settings, as plans and waves have it."""

    def known_group(server: str) -> str:
        return group_of(server, settings.politeness)

    return known_group
