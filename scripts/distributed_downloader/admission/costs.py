"""What robots.txt and opt-outs will cost, as far as profile's samples tell: before it is paid."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from distributed_downloader.records import ErrorClass
from distributed_downloader.wording import SETTINGS, why

COLUMNS = {
    "disallowed_count": ErrorClass.ROBOTS_DISALLOWED,
    "opted_out_count": ErrorClass.OPTED_OUT,
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Rows of one server that one rule is expected to cost."""

    server: str
    error_class: ErrorClass
    rows: int  # of the server's, if all are as the samples were
    of_rows: int
    refused: int  # samples
    samples: int

    @property
    def setting(self) -> str:
        """The key that changes it, for all servers; `politeness.servers` has it for one."""
        return SETTINGS[self.error_class]

    def as_json(self) -> dict[str, Any]:
        """For plan.json."""
        return {**asdict(self), "error_class": self.error_class.value, "setting": self.setting}

    def sentence(self) -> str:
        """For a person."""
        key = self.setting.removeprefix("politeness.")
        return (
            f"{self.server}: about {self.rows:,} of {self.of_rows:,} rows, {why(self.error_class)} "
            f"to {self.refused} of {self.samples} samples ({self.setting}, "
            f"or politeness.servers.{self.server}.{key})"
        )


def policy_costs(profiles: Mapping[str, Mapping[str, Any]]) -> list[Cost]:
    """From the profiles table, the largest first."""
    found = [cost for server, row in profiles.items() for cost in _costs(server, row)]
    return sorted(found, key=lambda cost: (-cost.rows, cost.server, cost.error_class))


def _costs(server: str, row: Mapping[str, Any]) -> Iterator[Cost]:
    samples = (row["success_count"] or 0) + (row["error_count"] or 0)
    of_rows = row["total_rows"] or 0
    for column, error_class in COLUMNS.items():
        refused = row[column] or 0
        if refused and samples:
            rows = round(of_rows * refused / samples)
            yield Cost(server, error_class, rows, of_rows, refused, samples)
