from pathlib import Path

import pytest

from distributed_downloader.configuration.config import (
    load_settings,
    notices,
    resolve_config,
    settings_of,
    write_effective_config,
)
from tests.unit.configuration.minimal_config import MINIMAL, down, resolved


def test_two_keys_are_enough():
    settings = settings_of(resolved())
    assert (settings.default_rate_limit, settings.politeness.default_connections) == (3, 4)
    assert (settings.politeness.burst, settings.politeness.robots) == (1, "obey")
    assert (settings.retries_per_row, settings.retries_waves, settings.ranks) == (3, 3, 2)
    assert settings.images.image_size == 224
    assert settings.tools == ()


def test_paths_are_absolute_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolved(politeness={"group_by": "table", "group_table": "groups.csv"})
    settings = settings_of(config)
    assert settings.path_to_input == str(tmp_path / "urls.txt")
    assert settings.paths.root == tmp_path / "out"
    assert settings.politeness.group_table == tmp_path / "groups.csv"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("exports", "{}/exports"),
        ("/disk/exports", "/disk/exports"),
        ("s3://bucket/exports", "s3://bucket/exports"),
        ("simplecache::s3://bucket/exports", "simplecache::s3://bucket/exports"),
        ("", ""),
    ],
)
def test_exports_go_to_one_place_wherever_a_job_runs(tmp_path, monkeypatch, target, expected):
    monkeypatch.chdir(tmp_path)
    config = resolved(tools_parameters={"export_target": target})
    assert config["tools_parameters"]["export_target"] == expected.format(tmp_path)


@pytest.mark.parametrize("path", ["~/urls.txt", "~no-such-user/urls.txt", "data/*.csv", "a b.txt"])
def test_any_input_path_becomes_absolute(path):
    assert Path(resolve_config({**MINIMAL, "path_to_input": path})["path_to_input"]).is_absolute()


def test_predecessors_name_of_the_output_folder_is_taken():
    config = resolve_config({"path_to_input": "a", "path_to_output_folder": "b"})
    assert config == resolve_config({"path_to_input": "a", "path_to_output": "b"})


@pytest.mark.parametrize(
    ("more", "read"),
    [
        ({"flush": {"seconds": "5"}}, 5),
        ({"politeness": {"allow_private_addresses": "true"}}, True),
        ({"politeness": {"servers": {"a.org": {"rate_limit": "0.5"}}}}, 0.5),
        ({"columns": {"title": "5"}}, "5"),
    ],
)
def test_text_is_read_as_the_number_that_a_setting_takes(more, read):
    """Snakemake's `--config 'flush={seconds: 5}'` hands out text."""
    value = resolved(**more)
    while isinstance(more, dict):
        [(key, more)] = more.items()
        value = value[key]
    assert value == read
    assert type(value) is type(read)


HEADERS = [
    ("User-Agent: a (b: c)", {"User-Agent": "a (b: c)"}),
    ({"user-agent": "a"}, {"User-Agent": "a"}),
    ("From: me@a.org", {"User-Agent": "polite-image-downloader", "From": "me@a.org"}),
    ({"User-Agent": "a", "From": "b"}, {"User-Agent": "a", "From": "b"}),
]


@pytest.mark.parametrize(("header", "expected"), HEADERS)
def test_header_is_one_line_or_a_mapping_and_has_an_agent(header, expected):
    assert settings_of(resolved(**down(header=header))).header == expected


def test_rate_multiplier_above_one_is_cut_with_a_notice():
    wrong = down(rate_multiplier=2.5)
    assert settings_of(resolved(**wrong)).rate_multiplier == 1
    assert notices(wrong) == [
        "downloader_parameters.rate_multiplier is the share of every limit that is used: "
        "2.5 is cut to 1."
    ]


def test_default_floor_bows_to_a_lower_limit():
    assert settings_of(resolved(**down(default_rate_limit=0.05))).politeness.min_rate == 0.05


def test_predecessors_other_sections_are_ignored_with_a_notice():
    old = {"scripts": {"a": ["b"]}, "schedule_rules": [[1, 2]]}
    assert resolved(**old) == resolved()
    assert notices(old) == [
        "scripts is accepted and ignored.",
        "schedule_rules is accepted and ignored.",
    ]


def test_caps_on_waves_and_jobs_are_noticed():
    old = {"downloader_parameters": {"num_downloads": 1}, "tools_parameters": {"num_workers": 3}}
    assert [notice.partition(":")[0] for notice in notices(old)] == [
        "downloader_parameters.num_downloads",
        "tools_parameters.num_workers",
    ]


def test_notices_read_text_as_settings_do():
    """As `--config 'downloader_parameters={num_downloads: 0}'` gives it."""
    assert notices(down(num_downloads="0")) == []
    assert notices(down(rate_multiplier="2")) == notices(down(rate_multiplier=2)) != []


def test_names_in_settings_are_those_of_urls():
    limits = {"HTTPS://Bücher.example/": {"burst": 2}, "*.A.org.": {"burst": 3}}
    config = resolved(politeness={"servers": limits}, hosts={"Bücher.Test.": "127.0.0.1"})
    assert config["politeness"]["servers"] == {
        "xn--bcher-kva.example": {"burst": 2},
        "*.a.org": {"burst": 3},
    }
    assert config["hosts"] == {"xn--bcher-kva.test": "127.0.0.1"}
    assert resolve_config(config) == config


def test_untroubled_config_has_no_notices():
    assert notices(resolved()) == []


def test_effective_config_keeps_its_name_until_a_setting_changes(tmp_path):
    first = write_effective_config(resolved(), tmp_path)
    again = write_effective_config(resolved(**down(default_rate_limit=3.0)), tmp_path)
    other = write_effective_config(resolved(**down(default_rate_limit=4)), tmp_path)
    assert first == again
    assert other != first
    assert sorted(tmp_path.iterdir()) == sorted([first, other])


def test_effective_config_that_is_there_is_not_written_again(tmp_path):
    path = write_effective_config(resolved(), tmp_path)
    before = path.stat()
    write_effective_config(resolved(), tmp_path)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_settings_of_a_file_are_those_of_its_config(tmp_path):
    servers = {"a.org": {"burst": 2, "rate_limit": 1e-9}}  # JSON says 1e-09
    config = resolved(images={"format": "webp"}, politeness={"servers": servers})
    assert load_settings(write_effective_config(config, tmp_path)) == settings_of(config)


def test_settings_are_read_from_a_users_yaml(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("path_to_input: a.txt\npath_to_output: out\npoliteness:\n  wait_s: 5\n")
    assert load_settings(path).politeness.wait_s == 5
