import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.configuration.config import (
    check_identity,
    environment_of,
    load_settings,
    notices,
    resolve_config,
    settings_of,
    write_effective_config,
)
from distributed_downloader.configuration.environment import TOOL_KEYS
from distributed_downloader.configuration.identity import check_targets
from distributed_downloader.configuration.schema import known_keys, schema
from distributed_downloader.errors import ConfigError
from distributed_downloader.paths import OUTPUT_STRUCTURE
from tests.unit.conftest import make_settings, merged

MINIMAL: dict[str, Any] = {"path_to_input": "urls.txt", "path_to_output": "out"}


def resolved(**more: Any) -> dict[str, Any]:
    return resolve_config(merged(MINIMAL, more))


def refusal(config: Any) -> str:
    with pytest.raises(ConfigError) as error:
        resolve_config(config)
    return str(error.value)


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


def down(**parameters: Any) -> dict[str, Any]:
    return {"downloader_parameters": parameters}


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


def test_config_that_holds_itself_is_refused():
    endless: dict[str, Any] = dict(MINIMAL)
    endless["columns"] = endless
    assert "deep" in refusal(endless)


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


AGENTS = [
    ("my-project (mailto:me@university.edu)", True),
    ("my-project (+https://project.university.edu/bot)", True),
    ("me@university.edu", True),
    ("polite-image-downloader", False),
    ("Mozilla/5.0 (X11; Linux x86_64)", False),
    ("project@", False),
    ("http://localhost", False),
    ("", False),
]


@pytest.mark.parametrize(("agent", "is_enough"), AGENTS)
def test_user_agent_must_name_a_contact(tmp_path, agent, is_enough):
    header = {"User-Agent": agent}
    public = make_settings(
        tmp_path, **down(header=header), politeness={"allow_private_addresses": False}
    )
    if is_enough:
        check_identity(public)
    else:
        with pytest.raises(ConfigError, match="names no contact"):
            check_identity(public)


def test_what_the_refusal_tells_to_write_is_accepted(tmp_path):
    public = make_settings(tmp_path, politeness={"allow_private_addresses": False})
    with pytest.raises(ConfigError) as error:
        check_identity(public)
    advice = yaml.safe_load(str(error.value).split("`")[1])
    check_identity(settings_of(resolved(**advice)))


def test_own_servers_need_no_contact(settings):
    check_identity(settings)
    check_targets(settings, {"img.home.arpa": ["192.168.1.2", "fd00::1"], "gone.home.arpa": []})


def test_a_public_server_among_own_ones_needs_a_contact(tmp_path, settings):
    addresses = {"img.home.arpa": ["192.168.1.2"], "museum.example": ["192.88.100.1"]}
    with pytest.raises(ConfigError, match=r"the owner of museum\.example \(at 192\.88\.100\.1, no"):
        check_targets(settings, addresses)
    named = make_settings(tmp_path, **down(header={"User-Agent": "us (me@example.org)"}))
    check_targets(named, addresses)


COMMON = {"CONFIG_PATH", "ACCOUNT", "PATH_TO_INPUT", "PATH_TO_OUTPUT"} | {
    f"OUTPUT_{key.upper()}" for key in OUTPUT_STRUCTURE
}
SECTIONS = schema()["properties"]
TEN = {f"DOWNLOADER_{key.upper()}" for key in SECTIONS["downloader_parameters"]["properties"]}
SIX = {f"TOOLS_{key.upper()}" for key in TOOL_KEYS}
STAGES = [
    ("partition", TEN),
    ("profile", TEN),
    ("schedule", TEN),
    ("download", TEN),
    ("verify", TEN),
    ("report", set()),
    ("tools", SIX),
]


@pytest.mark.parametrize(("stage", "own"), STAGES)
def test_jobs_get_the_variables_of_their_stage(settings, stage, own):
    assert (len(TEN), len(SIX)) == (10, 6)
    assert set(environment_of(settings, stage)) == COMMON | own


def test_variables_hold_absolute_paths_and_plain_words(settings, tmp_path):
    settings = make_settings(tmp_path, **down(header="User-Agent: a"))
    variables = environment_of(settings, "download")
    paths = [value for key, value in variables.items() if "PATH" in key or "OUTPUT" in key]
    assert all(Path(path).is_absolute() for path in paths)
    assert variables["DOWNLOADER_BATCH_SIZE"] == "10000"
    assert variables["DOWNLOADER_HEADER"] == "User-Agent: a"


def test_config_path_is_where_the_run_writes_its_config(settings):
    written = write_effective_config(settings.raw, settings.paths.configs)
    assert environment_of(settings, "report")["CONFIG_PATH"] == str(written)
    assert load_settings(written) == settings


def leaf(node: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values near what the setting takes, and values far from it."""
    near: list[st.SearchStrategy[Any]] = [st.sampled_from(node["enum"])] if "enum" in node else []
    if "default" in node:
        near.append(st.just(node["default"]))
    if "maximum" in node:
        near.append(st.integers(-1, node["maximum"] + 1))
        near.append(st.floats())
    return st.one_of(*near, st.text(), st.booleans(), st.none(), st.lists(st.text(), max_size=3))


def configs(node: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "properties" not in node:
        return leaf(node)
    keys = {key: configs(child) for key, child in node["properties"].items()}
    return st.fixed_dictionaries({}, optional=keys)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.dates() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)
NEARLY = configs(schema())
MINGLED = st.builds(
    merged, NEARLY, st.dictionaries(st.sampled_from(known_keys()), ANYTHING, max_size=2)
)


@given(st.dictionaries(st.text() | st.integers(), ANYTHING) | NEARLY | MINGLED)
def test_arbitrary_config_is_valid_or_a_config_error(config):
    try:
        first = resolve_config({**MINIMAL, **config})
    except ConfigError as error:
        assert str(error)
        return
    assert resolve_config(first) == first
    assert json.loads(json.dumps(first)) == first
    settings = settings_of(first)
    environment_of(settings, "download")
    assert all(isinstance(notice, str) for notice in notices(config))


@given(NEARLY, st.data())
def test_one_arbitrary_setting_is_taken_or_refused_alone(config, data):
    """Whole random configs nearly always fail: here all but one setting is at its default."""
    section = data.draw(st.sampled_from(sorted(set(schema()["properties"]) - set(MINIMAL))))
    try:
        first = resolve_config({**MINIMAL, section: config.get(section)})
    except ConfigError as error:
        assert str(error)
        return
    assert resolve_config(first) == first
    settings_of(first)


YAML_PIECES = [
    *("path_to_input: a\n", "path_to_output: b\n", "politeness:\n", "  burst: ", "hosts: ", ": "),
    *("{", "}", "[", "]", "&a ", "*a", "!!python/object:os.system ", "!!binary |\n", "\n", "\t"),
    *(
        "- ",
        "'",
        '"',
        "1e999",
        ".nan",
        "2020-01-01",
        "0o9",
        "~",
        "%YAML 9.9\n",
        "---\n",
        "\x00",
        "ü",
    ),
]


@given(st.lists(st.sampled_from(YAML_PIECES)).map("".join) | st.text() | st.binary(max_size=80))
def test_any_config_file_is_settings_or_a_config_error(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "my.yaml"
        raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        path.write_bytes(raw)
        try:
            load_settings(path)
        except ConfigError as error:
            assert str(error)
