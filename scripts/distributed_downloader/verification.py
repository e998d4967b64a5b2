"""What verify does: recount, then write what is derived from the count, in this order.

ledger.parquet (only if the sums match), left.json, summary.json.
"""

from collections.abc import Callable

from distributed_downloader.groups import group_of
from distributed_downloader.ledger import GroupOf, write_ledger
from distributed_downloader.left import Blocks, no_blocks, rules_of_today, write_left
from distributed_downloader.settings import Settings
from distributed_downloader.summary import Summary, write_summary


def verify_dataset(
    settings: Settings,
    group_of: GroupOf | None = None,
    load_blocks: Callable[[], Blocks] = no_blocks,
) -> Summary:
    """Account for every input row; `group_of` a server, None: as the settings say.

    Raises LedgerError if the files do not add up: then nothing is written.
    """
    group_of = group_of or known_groups(settings)
    counts = write_ledger(settings, group_of)
    rules = rules_of_today(settings)
    left = write_left(settings.paths, counts.left, load_blocks(), rules=rules)
    return write_summary(settings, counts, left, group_of)


def known_groups(settings: Settings) -> GroupOf:
    """A server's group by the settings, as plans and waves have it."""

    def known_group(server: str) -> str:
        return group_of(server, settings.politeness)

    return known_group
