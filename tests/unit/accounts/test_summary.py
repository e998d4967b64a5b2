import io

import pytest

from distributed_downloader.accounts.digest import print_places, print_summary
from distributed_downloader.accounts.verification import verify_dataset
from distributed_downloader.durable import read_json, write_json
from distributed_downloader.paths import Batch
from distributed_downloader.records import ErrorClass
from distributed_downloader.waves.left import Block
from tests.unit.dataset_folder import START, DatasetFolder

FAR = START * 10
GROUP = {
    "rank": 0,
    "limit": 3.0,
    "rate": 3.0,
    "burst": 1,
    "requests": 10,
    "images": 4,
    "refusals": 1,
    "blocks": 1,
    "peak_1s": 3,
    "peak_10s": 20,
    "bytes": 1000,
}


@pytest.fixture
def folder(tmp_path):
    folder = DatasetFolder(tmp_path / "out", rejected=1, duplicates=2)
    robots, page = ErrorClass.ROBOTS_DISALLOWED, ErrorClass.NOT_AN_IMAGE
    folder.add(Batch("a.example.org", 0), ["ok", "ok", page, page, robots], wave=0)
    folder.add(Batch("a.example.org", 1), ["ok", "pending"], wave=1)
    folder.add(Batch("b.example.org", 0), [ErrorClass.NOT_FOUND, page, "ok", robots, robots])
    folder.add(Batch("stop.example", 0), ["ok", "pending", ErrorClass.OPTED_OUT])
    folder.finish()
    folder.paths.ignored_table.write_text("server_name\nstop.example\n")
    folder.profile([{"server_name": "a.example.org", "group": "example.org", "rate_limit": 2.0}])
    low = {**GROUP, "group": "example.org", "peak_1s": 4, "limit": 9.0}
    folder.learn(0, [low, {**GROUP, "group": "stop.example"}], seconds=40.0, ranks=2)
    folder.learn(1, [{**GROUP, "group": "example.org", "requests": 5}], seconds=2.5, ranks=1)
    return folder


@pytest.fixture
def summary(folder):
    return verify_dataset(folder.settings())


def test_summary_is_written_as_returned(folder, summary):
    assert read_json(folder.paths.summary) == summary


def test_states_add_up_to_the_input(folder, summary):
    assert sum(summary["states"].values()) == summary["rows"] == folder.rows
    assert summary["states"]["ignored"] == 2


def test_given_up_tells_why_and_where_most(summary):
    first, second = summary["given_up"]
    assert (first["error_class"], first["rows"], first["servers"]) == ("not_an_image", 3, 2)
    assert first["most"] == ["a.example.org", "b.example.org"]
    assert first["why"] == "a page or text, not an image"
    assert second["error_class"] == "not_found"


def test_rules_cost_is_told_per_server_with_the_setting(summary):
    told = {(item["server"], item["error_class"]): item for item in summary["policy"]}
    assert told["b.example.org", "robots_disallowed"]["rows"] == 2
    assert told["a.example.org", "robots_disallowed"]["setting"] == "politeness.robots"
    assert told["stop.example", "ignored"]["rows"] == 2
    assert len(told) == 3


def test_each_server_has_its_states_errors_and_group(summary):
    server = summary["servers"][0]
    assert server["server"] == "a.example.org"
    assert (server["rows"], server["group"], server["rate_limit"]) == (7, "example.org", 2.0)
    assert server["states"]["ok"] == 3
    assert server["errors"] == {"not_an_image": 2, "robots_disallowed": 1}


def test_groups_add_up_waves_and_keep_the_highest_peak_with_its_allowance(summary):
    group = next(group for group in summary["groups"] if group["group"] == "example.org")
    assert (group["requests"], group["refusals"], group["limit"]) == (15, 2, 3.0)
    assert (group["peak_1s"], group["allowed_1s"]) == (3, 4.0)  # 3 of 4 is nearer than 4 of 10


def test_waves_have_seconds_ranks_and_the_ledgers_images(summary):
    assert [wave["seconds"] for wave in summary["waves"]] == [40.0, 2.5]
    assert [wave["ranks"] for wave in summary["waves"]] == [2, 1]
    assert [wave["images"] for wave in summary["waves"]] == [4, 1]
    assert (summary["used_s"], summary["lower_bound_s"]) == (42.5, 30.0)


def test_images_over_time_are_the_images(summary):
    assert sum(count for _, count in summary["timeline"]["images"]) == summary["states"]["ok"]


def test_wave_that_was_cut_is_timed_by_its_images(tmp_path):
    folder = DatasetFolder(tmp_path)
    folder.add(Batch("a", 0), ["ok"] * 9)
    write_json(folder.finish().paths.wave(0) / "started.json", {"started": START - 10})
    (wave,) = verify_dataset(folder.settings())["waves"]
    assert (wave["images"], wave["finished"]) == (9, False)
    assert 10 < wave["seconds"] <= 10 + folder.clock - START


def text_of(summary):
    stream = io.StringIO()
    print_summary(summary, stream)
    return stream.getvalue()


def test_digest_is_short_plain_and_says_what_counts(summary):
    text = text_of(summary)
    assert len(text.splitlines()) <= 20
    assert text.isprintable() or text.replace("\n", "").isprintable()
    assert text.startswith("Images                5  of 18 rows (27.8%)\n")
    assert "    3  a page or text, not an image, at 2 servers, most at a.example.org\n" in text
    assert "    2  b.example.org: robots.txt says no (politeness.robots)\n" in text
    assert "in 2 waves; keeping to the servers' limits costs at least 30 s\n" in text
    assert "run the same command again: it goes on with the 1 row left." in text


def test_digest_says_what_is_blocked_and_until_when(folder):
    blocks = {"example.org": Block(FAR, "429")}
    text = text_of(verify_dataset(folder.settings(), load_blocks=lambda: blocks))
    assert "Blocked               1  example.org, until 2508-09-16" in text
    assert "after 2508-09-16 06:13:20 UTC, run the same command again" in text


def test_digest_of_a_finished_run_asks_for_nothing(tmp_path):
    folder = DatasetFolder(tmp_path)
    folder.add(Batch("a", 0), ["ok"] * 2)
    text = text_of(verify_dataset(folder.finish().settings()))
    assert "2  of 2 rows (100%)" in text
    assert "What next" not in text
    assert "Given up" not in text


def test_digest_lists_the_first_of_many(tmp_path):
    folder = DatasetFolder(tmp_path)
    for number in range(9):
        folder.add(Batch(f"s{number}", 0), [ErrorClass.OPTED_OUT])
    text = text_of(verify_dataset(folder.finish().settings()))
    assert "and 4 more: see the report" in text
    assert "`retry_failed: [opted_out]` asks for these again" in text


def test_digest_hides_no_line_for_the_sake_of_one_that_says_so(tmp_path):
    folder = DatasetFolder(tmp_path)
    for number in range(6):
        folder.add(Batch(f"s{number}", 0), [ErrorClass.OPTED_OUT])
    text = text_of(verify_dataset(folder.finish().settings()))
    assert "s5: " in text
    assert "more: see the report" not in text


def test_hostile_server_name_cannot_forge_a_line(tmp_path):
    folder = DatasetFolder(tmp_path)
    name = "a\x1b[2J\nImages 9[bold]"
    folder.add(Batch(name, 0), [ErrorClass.CONNECT, ErrorClass.OPTED_OUT])
    text = text_of(verify_dataset(folder.finish().settings()))
    assert "\x1b" not in text
    assert r"a\x1b[2J\nImages 9[bold]" in text


def test_places_are_told(folder):
    stream = io.StringIO()
    print_places(folder.paths, stream)
    assert f"Dataset       {folder.paths.images}\n" in stream.getvalue()
    assert f"Report        {folder.paths.report}\n" in stream.getvalue()


def digest_of(folder):
    stream = io.StringIO()
    print_summary(verify_dataset(folder.settings()), stream)
    return stream.getvalue()


def test_node_hours_are_told_once_a_wave_had_several_nodes(folder):
    assert "node-hours" not in digest_of(folder)
    file = folder.paths.wave(0) / "progress.json"
    cost = {"nodes": 4, "node_hours": 2.0, "idle_node_hours": 0.5}
    write_json(file, {**read_json(file), **cost})
    assert "2  node-hours, 25.0% of them idle" in digest_of(folder)
