import pytest

from distributed_downloader.running.outcome import Outcome, has_failed, plain


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["error: A.", "error: B."], "A."),
        (["Error in rule a:", "error: A."], "A."),
        (["[3] error: A rank says so."], "A rank says so."),
        (["\x1b[31merror: In colours.\x1b[0m\r"], "In colours."),
        (["\r\x1b[Kwave 1: 3 of 4\rerror: After a live line."], "After a live line."),
        (["sbatch: error: invalid partition x"], "sbatch: error: invalid partition x"),
        (["sbatch: error: x", "error: Ours comes first."], "Ours comes first."),
        (["snakemake: error: unrecognized arguments: -x"], None),
        (["no error: here in the middle"], False),
    ],
)
def test_sentence_is_found_among_many_words(lines, expected):
    outcome = Outcome()
    for line in ["Building DAG of jobs...", "", *lines, "WorkflowError:"]:
        outcome.hear(line)
    sentence = outcome.sentence(1)
    if expected is False:
        assert sentence.startswith("The workflow ended with exit code 1")
    else:
        assert sentence == (expected or lines[0])


def test_sentence_is_found_in_the_failed_jobs_log_but_not_an_earlier_runs(tmp_path):
    log = tmp_path / "verify.log"
    log.write_text("2001-01-01T00:00:00.000Z ERROR verify/0 distributed_downloader.logs: Old.\n")
    outcome = Outcome()
    with log.open("a") as file:
        file.write("9999-01-01T00:00:00.000Z INFO verify/0 distributed_downloader.x: Fine.\n")
        file.write("9999-01-01T00:00:00.000Z ERROR verify/0 distributed_downloader.x: New.\n")
        file.write("Traceback (most recent call last):\n")
    outcome.hear("Error in rule verify_dataset:")
    outcome.hear(f"    log: {tmp_path}/none.log, {log} (check log file(s) for error details)")
    assert outcome.sentence(1) == "New."


def test_without_a_sentence_the_last_lines_are_told():
    outcome = Outcome()
    for number in range(100):
        outcome.hear(f"line {number}")
    sentence = outcome.sentence(-9)
    assert sentence.startswith("The workflow ended with SIGKILL (the same command goes on).")
    assert sentence.endswith("line 98\nline 99")
    assert "line 80" not in sentence


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x", "x"),
        ("x\r\n", "x"),
        ("\x1b[1;32mx\x1b[0m y", "x y"),
        ("50%\r60%\r", "60%"),
        ("\r\x1b[Kdone", "done"),
        ("", ""),
    ],
)
def test_plain_is_what_a_terminal_shows_in_the_end(line, expected):
    assert plain(line) == expected


def test_which_rule_failed_is_in_snakemakes_logs(tmp_path):
    logs = [tmp_path / "1.log", tmp_path / "2.log"]
    logs[0].write_bytes(b"\xff\nrule verify_dataset:\n")
    logs[1].write_text("Error in rule download_images:\n    jobid: 2\n")
    assert has_failed("download_images", logs)
    assert not has_failed("verify_dataset", logs)
