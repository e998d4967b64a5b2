"""What rules are expected to cost, told before it is paid."""

from distributed_downloader.admission.costs import policy_costs
from distributed_downloader.records import ErrorClass


def profile(*, rows: int = 1000, good: int = 0, **refused: int) -> dict[str, int | None]:
    none = {"disallowed_count": 0, "opted_out_count": None}
    bad = sum(refused.values())
    return {"total_rows": rows, "success_count": good, "error_count": bad, **none, **refused}


def test_samples_are_taken_for_all_rows_and_the_key_is_named() -> None:
    (cost,) = policy_costs({"a.org": profile(rows=1000, good=3, opted_out_count=1)})
    assert (cost.error_class, cost.rows) == (ErrorClass.OPTED_OUT, 250)
    assert cost.sentence() == (
        "a.org: about 250 of 1,000 rows, the image's headers say no to 1 of 4 samples "
        "(politeness.opt_out_headers, or politeness.servers.a.org.opt_out_headers)"
    )
    assert cost.as_json()["setting"] == "politeness.opt_out_headers"


def test_the_largest_cost_comes_first_and_what_costs_nothing_is_not_told() -> None:
    profiles = {
        "free.org": profile(good=2),
        "small.org": profile(rows=10, disallowed_count=2),
        "never-sampled.org": profile(),
        "large.org": profile(rows=5000, disallowed_count=1, opted_out_count=1),
    }
    told = [(cost.server, cost.rows) for cost in policy_costs(profiles)]
    assert told == [("large.org", 2500), ("large.org", 2500), ("small.org", 10)]
