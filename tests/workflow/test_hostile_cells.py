"""Cells that no list should hold, through a whole run: data, and never a path or a line."""

import json
import re

import polars as pl

from distributed_downloader.fleet.plan import HostPlan
from distributed_downloader.paths import OutputPaths
from distributed_downloader.storage.dataset import Dataset
from tests.workflow.stages import Stages
from tests.workflow.test_crash_points import config_of

NASTY = [
    *("../../../etc/passwd", "/etc/passwd", "a\nb", "a\r\nX-Evil: 1", "x" * 5_000, "..", ".", "~"),
    *("a\0b", "\x1b[2J\x1b]0;owned\x07", "2026-01-01T00:00:00.000Z ERROR forged", "$(touch owned)"),
    *(
        "`touch owned`",
        "{wildcards.x}",
        "%s%n",
        "</script><script>alert(1)</script>",
        "\u202egpj.exe",
    ),
    *('=HYPERLINK("http://x")', "'; DROP TABLE rows; --", "server_name=a/partition_id=9"),
]
COLUMNS = ("source_id", "license", "source", "title", "note")
LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z (DEBUG|INFO|WARNING|ERROR) ")


def test_hostile_cells_are_data_and_nothing_else(start_fleet, tmp_path):
    host = HostPlan(name="a.one.test", address="127.0.47.1", images=len(NASTY), photos="tiny")
    fleet = start_fleet(host)
    config = config_of(fleet, tmp_path / "out") | {"profile": {"samples": 0}}
    config["path_to_input"] = str(tmp_path / "list.jsonl")
    config["downloader_parameters"] = {**config["downloader_parameters"], "logger_level": "DEBUG"}
    rows = [
        {"identifier": url, **dict.fromkeys(COLUMNS, cell)}
        for url, cell in zip(fleet.urls(), NASTY, strict=True)
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Stages().play(config, "partition", "profile", "waves", "verify") == 0

    paths = OutputPaths.of(tmp_path / "out")
    ledger = pl.read_parquet(paths.ledger)
    assert dict(ledger.group_by("state").len().iter_rows()) == {"ok": len(NASTY)}
    with Dataset(paths.root) as dataset:
        kept = {record.row["title"] for record in dataset}
    assert kept == set(NASTY)
    assert {file.name for file in tmp_path.iterdir()} == {"list.jsonl", "urls.txt", "out"}
    for file in paths.root.rglob("*"):
        assert re.fullmatch(r"[\w.=%-]{1,200}", file.name), file
    for log in paths.logs.rglob("*.log"):
        assert all(LINE.match(line) for line in log.read_text().splitlines()), log
