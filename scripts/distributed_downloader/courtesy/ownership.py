"""Which rank may ask a group: exactly one in each wave, and every rank knows which."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

NOBODYS = ""  # the group of a server whose group is not known before the next plan


@dataclass(frozen=True, slots=True)
class Ownership:
    """Which rank may ask which group in this wave."""

    rank: int
    ranks: int
    owners: Mapping[str, int]  # group -> rank, as planned

    def is_ours(self, group: str) -> bool:
        """Every rank gives the same answer about every group."""
        if group == NOBODYS:
            return False
        owner = self.owners.get(group)
        return self.rank == (owner_of_unplanned(group, self.ranks) if owner is None else owner)


def owner_of_unplanned(group: str, ranks: int) -> int:
    """The one rank that owns a group nobody planned: redirects lead to new groups.

    Every rank computes the same without asking, so that a group never has two owners.
    """
    return zlib.crc32(group.encode()) % ranks
