"""Schema, template and config/README.md agree."""

import itertools
import re
from typing import Any

import pytest
import yaml

from distributed_downloader import tables
from distributed_downloader.configuration.config import environment_of, resolve_config
from distributed_downloader.configuration.schema import schema
from distributed_downloader.errors import ConfigError
from distributed_downloader.house import house
from distributed_downloader.records import ErrorClass, State
from distributed_downloader.urls.words import Reason
from tests.unit.settings_rows import PATTERN, leaves, rows

TEMPLATE = (house() / "config" / "config.yaml").read_text(encoding="utf-8")
PAGE = (house() / "config" / "README.md").read_text(encoding="utf-8")
NEEDED = {"path_to_input", "path_to_output"}
DEFAULTS = {key: node.get("default") for key, node in leaves(schema())}


def flat(config: dict[str, Any], known: set[str], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        is_section = isinstance(value, dict) and key not in known
        found.update(flat(value, known, f"{key}.") if is_section else {key: value})
    return found


def test_template_holds_every_default():
    plain = flat(yaml.safe_load(TEMPLATE), set(DEFAULTS))
    expected = {key: value for key, value in DEFAULTS.items() if value is not None}
    assert plain == {**expected, **dict.fromkeys(NEEDED, "")}


@pytest.mark.parametrize("key", sorted(key for key in DEFAULTS if DEFAULTS[key] is None))
def test_template_shows_every_setting_without_default(key):
    name = key.rpartition(".")[2]
    indent = "#    " if PATTERN in key else ""
    assert re.search(rf"^ *{indent}#?{name}:", TEMPLATE, flags=re.M)


def test_templates_example_of_a_server_is_valid():
    lines = TEMPLATE[TEMPLATE.index("  #servers:") :].splitlines()
    block = itertools.takewhile(lambda line: line.startswith("  #"), lines)
    servers = yaml.safe_load("\n".join(line.replace("#", "", 1) for line in block))["servers"]
    shown = {key for server in servers.values() for key in server}
    assert shown == {key.rpartition(".")[2] for key in DEFAULTS if PATTERN in key}
    config = {"path_to_input": "a", "path_to_output": "b", "politeness": {"servers": servers}}
    assert resolve_config(config)["politeness"]["servers"] == servers


def test_every_setting_of_the_template_stands_under_a_comment():
    lines = [line for line in TEMPLATE.splitlines() if line]
    for before, line in itertools.pairwise(lines):
        if re.match(r" *\w+: *\S", line) and "User-Agent" not in line:
            assert before.strip().startswith("#"), line


def test_untouched_template_says_what_to_do_in_one_sentence():
    with pytest.raises(ConfigError, match=r"^No path_to_input and no path_to_output: say .*\.$"):
        resolve_config(yaml.safe_load(TEMPLATE))


def test_page_lists_every_setting_as_the_schema_has_it():
    start = PAGE.index("## Settings")
    table = PAGE[start : PAGE.index("###", start)].splitlines()
    assert [line for line in table if line.startswith("| `")] == rows()


def described(heading: str) -> set[str]:
    """The words in backticks of one section."""
    start = PAGE.index(f"### {heading}")
    end = PAGE.find("\n##", start + 1)
    return set(re.findall(r"`([^`]+)`", PAGE[start:end]))


SECTIONS = [
    ("urls/", tables.URLS),
    ("urls/", tables.PARTITIONS),
    ("urls/", tables.DUPLICATES),
    ("urls/", tables.TOMBSTONES),
    ("profiles.csv", tables.PROFILES),
    ("schedules/", tables.SCHEDULE),
    ("schedules/", tables.LEARNED),
    ("images/", tables.SUCCESSES),
    ("images/", tables.ERRORS),
    ("images/", tables.REMOVED),
    ("ledger.parquet", tables.LEDGER),
    ("CREDITS.parquet", tables.CREDITS),
    ("CREDITS.parquet", tables.CREDITED_DATASETS),
]


@pytest.mark.parametrize(("heading", "columns"), SECTIONS)
def test_page_describes_every_column(heading, columns):
    assert set(columns.names()) <= described(heading)


WORDS = [("urls/", Reason), ("images/", ErrorClass), ("ledger.parquet", State)]


@pytest.mark.parametrize(("heading", "words"), WORDS)
def test_page_lists_every_word(heading, words):
    assert {word.value for word in words} <= described(heading)


def test_page_names_every_variable(settings):
    shared = set(environment_of(settings, "report"))
    assert shared <= described("Variables that jobs get")


def test_the_five_lines_of_the_readme_are_enough():
    readme = (house() / "README.md").read_text(encoding="utf-8")
    shown = readme.split("```yaml\n")[1].split("```")[0]
    assert len(shown.splitlines()) == 5
    assert resolve_config(yaml.safe_load(shown))["downloader_parameters"]["header"]
