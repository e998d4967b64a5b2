"""One list through the whole workflow: filters, hashes, duplicates and credits."""

import hashlib
import json

import httpx
import polars as pl

from distributed_downloader import Dataset
from distributed_downloader.fleet.plan import HostPlan


def test_a_list_with_licences_hashes_and_duplicates(start_fleet, new_workflow, tmp_path):
    fleet = start_fleet(
        HostPlan(name="img.one.test", address="127.0.30.5", images=6, photos="small"),
        HostPlan(name="two.test", address="127.0.30.6", images=2, photos="small"),
    )
    one, two = fleet.urls("img.one.test"), fleet.urls("two.test")
    rows = [
        {"uuid": f"u{n}", "url": url, "sha": "", "licence": "CC BY 4.0", "photographer": "Ann"}
        for n, url in enumerate([*one, *two])
    ]
    rows[0]["sha"] = hashlib.sha256(body_of(fleet, one[0])).hexdigest()
    rows[1]["sha"] = "0" * 64
    rows[2]["licence"] = "all rights reserved"
    rows[3]["title"] = "blurred"
    rows.append({**rows[4], "uuid": "u4-again", "url": f"{one[4]}#2", "photographer": "Bo"})
    workflow = new_workflow(
        fleet,
        [],
        columns={"hash": "sha", "hash_kind": "sha256", "creator": "photographer"},
        filters={
            "licenses": ["CC-BY-*"],
            "servers_excluded": ["two.test"],
            "where": "title IS NULL OR title <> 'blurred'",
        },
    )
    (tmp_path / "urls.txt").write_text("".join(json.dumps(row) + "\n" for row in rows))
    workflow.finish()

    assert workflow.states() == {"duplicate": 1, "failed_final": 1, "ok": 3, "rejected": 4}
    assert workflow.errors().select("uuid", "error_class", "retry_count").rows() == [
        ("u1", "hash_mismatch", 0)
    ]
    summary = json.loads(workflow.paths.summary.read_text())
    reasons = {each["reason"]: each["rows"] for each in summary["rejected"]}
    assert reasons == {"server_denied": 2, "license_denied": 1, "row_denied": 1}
    assert summary["repairs"] == {"fragment": 1}
    asked = fleet.accesses().filter(~pl.col("path").str.ends_with("robots.txt"))
    assert set(asked["host"]) == {"img.one.test"}
    assert asked["path"].n_unique() == 4  # each URL once, and none that is denied
    with Dataset(workflow.paths.root) as images:
        assert images.bytes("u4-again") == images.bytes("u4")
        assert images["u4-again"].row["identifier"] == f"{one[4]}#2"
    credits = pl.read_parquet(workflow.paths.credits)
    assert set(credits["uuid"]) == {"u0", "u4", "u5"}
    assert set(credits.select("creator", "license_class").rows()) == {("Ann", "CC-BY-4.0")}
    assert workflow.paths.credits_csv.read_text().startswith("uuid,creator,rights_holder")


def body_of(fleet, url: str) -> bytes:
    """What the server sends for it."""
    parts = httpx.URL(url)
    address = parts.copy_with(host=fleet.hosts[parts.host])
    return httpx.get(address, headers={"Host": parts.netloc.decode()}).content
