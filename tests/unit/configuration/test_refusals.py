from typing import Any

import pytest

from distributed_downloader.configuration.config import load_settings
from distributed_downloader.errors import ConfigError
from tests.unit.configuration.minimal_config import MINIMAL, down, refusal
from tests.unit.conftest import merged


def test_a_misspelt_path_is_named_before_it_is_missed():
    first, second = refusal({"path_to_input": "a", "path_to_ouput": "b"}).splitlines()
    assert first == "Unknown setting path_to_ouput: did you mean path_to_output?"
    assert second.startswith("No path_to_output: say where")


def test_two_output_folders_are_refused():
    assert "keep one" in refusal({**MINIMAL, "path_to_output_folder": "b"})


@pytest.mark.parametrize("config", [{}, {"path_to_input": "", "path_to_output": None}])
def test_config_that_says_nothing_is_told_what_to_say(config):
    assert refusal(config) == (
        "No path_to_input and no path_to_output: say where the list of image URLs is and where the "
        "dataset goes, in a config of your own (`--configfile my.yaml`, the template is "
        "config/config.yaml) or as `--config path_to_input=urls.txt path_to_output=out`."
    )


UNKNOWN = [
    ({"batch_size": 5}, "batch_size", "downloader_parameters.batch_size"),
    ({"toolss": []}, "toolss", "tools"),
    ({"politeness": {"robot": "obey"}}, "politeness.robot", "politeness.robots"),
    ({"politeness": {"first_s": 1}}, "politeness.first_s", "politeness.backoff.first_s"),
    (
        {"downloader_parameters": {"batchsize": 5}},
        "downloader_parameters.batchsize",
        "downloader_parameters.batch_size",
    ),
]


@pytest.mark.parametrize(("more", "key", "nearest"), UNKNOWN)
def test_unknown_key_is_refused_with_the_nearest_known_one(more, key, nearest):
    assert refusal(merged(MINIMAL, more)) == f"Unknown setting {key}: did you mean {nearest}?"


def test_unknown_key_of_a_server_names_the_whole_path():
    servers = {"a.org": {"rate_limits": 3}}
    text = refusal(merged(MINIMAL, {"politeness": {"servers": servers}}))
    assert "politeness.servers.a.org.rate_limits" in text


def test_key_like_no_other_points_to_the_list():
    text = refusal({**MINIMAL, "zzz": 1})
    assert text == "Unknown setting zzz: config/README.md lists them all."


def polite(**parameters: Any) -> dict[str, Any]:
    return {"politeness": parameters}


WRONG = [
    (
        down(batch_size=0),
        "downloader_parameters.batch_size is 0: allowed is a whole number from 1 to 200000.",
    ),
    (
        down(batch_size="many"),
        'downloader_parameters.batch_size is "many": allowed is a whole number from 1 to 200000.',
    ),
    (
        down(batch_size=True),
        "downloader_parameters.batch_size is true: allowed is a whole number from 1 to 200000.",
    ),
    (
        down(default_rate_limit=0),
        "downloader_parameters.default_rate_limit is 0: allowed is a number above 0, up to 1000.",
    ),
    (
        down(default_rate_limit=float("nan")),
        "downloader_parameters.default_rate_limit is nan: allowed is a finite number.",
    ),
    (
        down(header="my project"),
        'downloader_parameters.header is "my project": allowed is "Name: value", or a mapping of '
        "names to values, in plain ASCII.",
    ),
    (
        down(header={"User-Agent": "a", "user-agent": "b"}),
        "downloader_parameters.header gives user-agent 2 times: keep one.",
    ),
    (
        down(header="Host: a.org"),
        "downloader_parameters.header gives host, which each request sets itself.",
    ),
    (
        polite(robots=False),
        "politeness.robots is false: allowed is one of obey, crawl_delay_only, ignore.",
    ),
    (
        polite(opt_out_headers=["noai", "nosuch"]),
        'politeness.opt_out_headers.1 is "nosuch": allowed is one of noai, noimageai, noindex, '
        "noimageindex, noml, tdm-reservation.",
    ),
    (
        polite(servers={"a org": {"burst": 1}}),
        'politeness.servers has "a org": that is not a name it can have.',
    ),
    (
        polite(servers={"ftp://a.org/": {"burst": 1}}),
        "politeness.servers has 'ftp://a.org/', which is no host: write it as example.org, "
        "example.org:8080 or [2001:db8::1].",
    ),
    (
        {"hosts": {"a.test:80": "127.0.0.1"}},
        'hosts has "a.test:80": that is not a name it can have.',
    ),
    (
        {"hosts": {"a..test": "127.0.0.1"}},
        "hosts has 'a..test', which is no host: write it as example.org, example.org:8080 or "
        "[2001:db8::1].",
    ),
    (
        {"hosts": {"ü.test": "127.0.0.1", "Ü.test": "127.0.0.2"}},
        "hosts has both 'ü.test' and 'Ü.test', which are one server: keep one of them.",
    ),
    (
        polite(servers={"a.org": {"hours": "evening"}}),
        'politeness.servers.a.org.hours is "evening": allowed is "20-6" or "22:30-06:00" (UTC), '
        "or a list of such.",
    ),
    (
        polite(min_rate=5),
        "politeness.min_rate is 5: allowed is no more than "
        "downloader_parameters.default_rate_limit (3).",
    ),
    (
        {"timeouts": {"connect_s": 70}},
        "timeouts.connect_s is 70: allowed is no more than timeouts.total_s (60).",
    ),
    ({"politeness": 3}, "politeness is 3: allowed is a section (keys with values)."),
    ({"account": 12345}, "account is 12345: allowed is the name of a Slurm account."),
    (
        {"path_to_input": ["a"]},
        'path_to_input is ["a"]: allowed is a file, a folder or a glob, '
        "here or at an address such as s3://, hf:// or https://.",
    ),
    (
        {"tools": "resize"},
        'tools is "resize": allowed is a list without repeats, each the name of a tool, as its '
        "file in rules/tools.",
    ),
    ({"hosts": {"a.test": "999"}}, "hosts.a.test is '999': allowed is an IP address."),
    (
        {"output_structure": {"urls_folder": "../urls"}},
        'output_structure.urls_folder is "../urls": allowed is a plain name without slashes, '
        "braces or wildcards that does not start with a dot.",
    ),
    (
        {"output_structure": {"urls_folder": "images"}},
        "output_structure.urls_folder and output_structure.images_folder are both images: "
        "give each its own name.",
    ),
    (
        {"output_structure": {"urls_folder": "robots"}},
        "output_structure.urls_folder is robots, which the run itself writes: take another name.",
    ),
]


@pytest.mark.parametrize(("more", "sentence"), WRONG)
def test_wrong_value_is_refused_in_one_sentence(more, sentence):
    assert refusal(merged(MINIMAL, more)) == sentence


@pytest.mark.parametrize("output", ["data", "data/", "data/out", "./data/a/b"])
def test_output_inside_the_input_is_refused(output):
    assert "beside it" in refusal({"path_to_input": "data", "path_to_output": output})


def test_of_many_problems_the_first_five_are_named():
    wrong = down(batch_size=0, image_size=-1, max_nodes=0, workers_per_node=0, header=1, a=1, b=2)
    lines = refusal(merged(MINIMAL, wrong)).splitlines()
    assert len(lines) == 6
    assert lines[-1] == "... and 2 more."


def test_config_that_holds_itself_is_refused():
    endless: dict[str, Any] = dict(MINIMAL)
    endless["columns"] = endless
    assert "deep" in refusal(endless)


UNREADABLE = [
    (b"a: [", "Cannot read"),
    (b"- a\n", "is no mapping"),
    (b"\xff\xfe\xff", "Cannot read"),
]


@pytest.mark.parametrize(("content", "words"), UNREADABLE)
def test_unreadable_config_file_is_one_line(tmp_path, content, words):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as error:
        load_settings(path)
    assert "\n" not in str(error.value)


def test_missing_config_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml"):
        load_settings(tmp_path / "nothing.yaml")
