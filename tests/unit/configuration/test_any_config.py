import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.configuration.config import (
    environment_of,
    load_settings,
    notices,
    resolve_config,
    settings_of,
)
from distributed_downloader.configuration.schema import known_keys, schema
from distributed_downloader.errors import ConfigError
from tests.unit.configuration.minimal_config import MINIMAL
from tests.unit.conftest import merged


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
