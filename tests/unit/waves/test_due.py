"""When another wave is due, and which number it has."""

import pytest

from distributed_downloader.durable import write_json
from distributed_downloader.waves.due import PROGRESS, STARTED, first_wave, next_wave_is_due
from distributed_downloader.waves.left import rules_of_today
from tests.unit.conftest import make_settings

NOW = 1_700_000_000.0
SOME = {"left": 5, "free_at": 0}
NONE = {"left": 0, "free_at": 0}
RESTS = {"left": 5, "free_at": NOW + 100}
RESTS_LONG = {"left": 5, "free_at": NOW + 901}
CHANGED = {"changed": 3, "blocked": 0}
UNCHANGED = {"changed": 0, "blocked": 0}
ONLY_RESTED = {"changed": 0, "blocked": 1}


def is_due(tmp_path, left, before, *, most_waves=0, first=0):
    """Whether the wave after those in `before` (the run's own) is due."""
    settings = make_settings(
        tmp_path,
        politeness={"wait_s": 900},
        downloader_parameters={"num_downloads": most_waves},
    )
    for wave, progress in enumerate(before, start=first):
        write_json(settings.paths.wave(wave) / PROGRESS, progress)
    if left is not None:
        write_json(settings.paths.left, {"rules": rules_of_today(settings), **left})
    wave = first + len(before)
    return next_wave_is_due(settings.paths, settings, first=first, wave=wave, now=lambda: NOW)


@pytest.mark.parametrize(
    ("left", "before", "expected"),
    [
        (None, [], True),  # the very first: nothing is known
        (SOME, [], True),  # work that is left when a run starts earns a wave
        (NONE, [], False),
        (SOME, [CHANGED], True),
        (NONE, [CHANGED], False),
        (SOME, [UNCHANGED], False),
        (RESTS, [], True),  # its plan waits
        (RESTS, [CHANGED], True),
        (RESTS, [ONLY_RESTED], True),
        (RESTS_LONG, [], False),
        (RESTS_LONG, [CHANGED], False),
    ],
)
def test_a_wave_is_due(tmp_path, left, before, expected):
    assert is_due(tmp_path, left, before) == expected


@pytest.mark.parametrize(("most_waves", "expected"), [(1, False), (2, True), (0, True)])
def test_num_downloads_counts_the_waves_of_this_run_only(tmp_path, most_waves, expected):
    assert is_due(tmp_path, SOME, [CHANGED], most_waves=most_waves, first=7) == expected


def test_a_wave_that_is_done_stays_in_the_account_whatever_is_left(tmp_path):
    settings = make_settings(tmp_path)
    write_json(settings.paths.wave(0) / PROGRESS, UNCHANGED)
    write_json(settings.paths.left, {**NONE, "rules": rules_of_today(settings)})
    assert next_wave_is_due(settings.paths, settings, first=0, wave=0)


def test_a_run_begins_after_every_wave_that_was_started_also_one_that_was_killed(tmp_path):
    paths = make_settings(tmp_path).paths
    assert first_wave(paths) == 0
    for wave in (0, 9, 10):
        write_json(paths.wave(wave) / STARTED, {})
    write_json(paths.wave(11) / "plan.json", {})  # planned, and never begun
    write_json(paths.schedules / "profile" / "groups-0.json", {})
    assert first_wave(paths) == 11


@pytest.mark.parametrize("is_done", [True, False])
def test_a_wave_that_was_cut_is_followed_by_one_that_consolidates_what_it_stored(tmp_path, is_done):
    """Verify, which runs after an error too, may have counted that no row is left."""
    settings = make_settings(tmp_path)
    write_json(settings.paths.left, {**NONE, "rules": rules_of_today(settings)})
    write_json(settings.paths.wave(3) / STARTED, {})
    if is_done:
        write_json(settings.paths.wave(3) / PROGRESS, CHANGED)
    first = first_wave(settings.paths)
    assert next_wave_is_due(settings.paths, settings, first=first, wave=first) != is_done
    write_json(settings.paths.wave(4) / PROGRESS, UNCHANGED)
    assert not next_wave_is_due(settings.paths, settings, first=first, wave=5)


def test_after_a_cut_network_a_new_run_looks_at_once_and_a_running_one_waits(tmp_path):
    settings = make_settings(tmp_path)
    cut = {**SOME, "free_at": 9e9, "cut_off": True, "rules": rules_of_today(settings)}
    write_json(settings.paths.left, cut)
    assert next_wave_is_due(settings.paths, settings, first=3, wave=3)
    write_json(settings.paths.wave(3) / PROGRESS, {**UNCHANGED, "blocked": 1})
    assert not next_wave_is_due(settings.paths, settings, first=3, wave=4)


@pytest.mark.parametrize("edited", ["ignored", "retries", "nothing"])
def test_what_a_person_allows_anew_between_two_runs_earns_a_wave(tmp_path, edited):
    settings = make_settings(tmp_path)
    settings.paths.root.mkdir()
    settings.paths.ignored_table.write_text("server_name\na.org\n")
    write_json(settings.paths.left, {**NONE, "rules": rules_of_today(settings)})
    if edited == "ignored":
        settings.paths.ignored_table.write_text("server_name\n# a.org\n")
    if edited == "retries":
        settings = make_settings(tmp_path, retries={"waves": 9})
    expected = edited != "nothing"
    assert next_wave_is_due(settings.paths, settings, first=4, wave=4) == expected
    write_json(settings.paths.wave(4) / PROGRESS, CHANGED)
    assert not next_wave_is_due(settings.paths, settings, first=4, wave=5)


def test_a_live_state_that_is_damaged_is_counted_anew(tmp_path):
    settings = make_settings(tmp_path)
    settings.paths.root.mkdir()
    settings.paths.left.touch()
    assert next_wave_is_due(settings.paths, settings, first=3, wave=3)
    assert not next_wave_is_due(settings.paths, settings, first=3, wave=4)


def test_a_wave_whose_end_is_damaged_counts_as_cut(tmp_path):
    settings = make_settings(tmp_path)
    rules = {"rules": rules_of_today(settings)}
    write_json(settings.paths.left, {**NONE, **rules})
    write_json(settings.paths.wave(3) / STARTED, {})
    (settings.paths.wave(3) / PROGRESS).touch()
    assert next_wave_is_due(settings.paths, settings, first=4, wave=4)
    write_json(settings.paths.left, {**SOME, **rules})
    assert next_wave_is_due(settings.paths, settings, first=3, wave=4)
