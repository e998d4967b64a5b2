"""The settings' schema: what is known, what is allowed, what holds when nothing is said.

A problem is one sentence: the key with its full path, the offending value, and what is allowed.
"""

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from distributed_downloader.errors import ConfigError
from distributed_downloader.house import SCHEMA, house

MAX_DEPTH = 12  # an alias that holds itself would never end
MAX_SHOWN = 60  # characters of an offending value
EXACT_BITS = 53  # larger floats are not exact whole numbers

Node = Mapping[str, Any]

_WORDS: Mapping[str, tuple[type, ...]] = {  # types that text may stand for
    "integer": (int, float),
    "number": (int, float),
    "boolean": (bool,),
}


@cache
def schema() -> dict[str, Any]:
    """`config/config.schema.yaml`, parsed once."""
    text = (house() / SCHEMA).read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def sections(node: Node, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every setting with its dotted path, sections before what they hold."""
    for name, child in node.get("properties", {}).items():
        yield f"{prefix}{name}", child
        yield from sections(child, f"{prefix}{name}.")


def known_keys() -> list[str]:
    """The dotted path of every setting."""
    return [key for key, _ in sections(schema())]


def plain(value: Any, depth: int = 0) -> Any:
    """The value as fresh dicts, lists and scalars; settings that are empty (None) are left out."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"The config is nested more than {MAX_DEPTH} deep: no setting is.")
    if isinstance(value, Mapping):
        items = ((str(key), child) for key, child in value.items() if child is not None)
        return {key: plain(child, depth + 1) for key, child in items}
    if isinstance(value, list | tuple):
        return [plain(child, depth + 1) for child in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**EXACT_BITS:
        return int(value)  # 3.0 and 3 are one config, with one hash
    return value


def typed(given: Mapping[str, Any], node: Node | None = None) -> dict[str, Any]:
    """The config with text read as the number or truth that a setting takes.

    Of `--config 'flush={seconds: 5}'` Snakemake hands out the 5 as text.
    """
    node = schema() if node is None else node
    known, others = node.get("properties", {}), node.get("additionalProperties") or {}
    config = dict(given)
    for name, value in config.items():
        child = known.get(name, others)
        if isinstance(value, Mapping):
            config[name] = typed(value, child)
        elif isinstance(value, str) and str(child.get("type")) in _WORDS:
            config[name] = _read_as(value, _WORDS[child["type"]])
    return config


def _read_as(text: str, types: tuple[type, ...]) -> Any:
    """The value that YAML reads in the text if it is of one of these types, else the text."""
    try:
        value = yaml.safe_load(text) if len(text) <= MAX_SHOWN else text
    except yaml.YAMLError:
        return text
    return plain(value) if type(value) in types else text


def with_defaults(given: Mapping[str, Any], node: Node | None = None) -> dict[str, Any]:
    """The config with the default of every setting that it does not give."""
    filled = dict(given)
    for name, child in (node or schema()).get("properties", {}).items():
        if "properties" in child:
            filled[name] = with_defaults(filled.get(name, {}), child)
        elif name not in filled and "default" in child:
            filled[name] = plain(child["default"])
    return filled


def problems(config: Mapping[str, Any]) -> list[str]:
    """What is wrong with a plain config, one sentence each, in the order of the keys."""
    found = list(_unwritable(config))
    errors = Draft202012Validator(schema()).iter_errors(config)
    for error in sorted(errors, key=lambda error: [str(part) for part in error.absolute_path]):
        found.extend(_sentences(error))
    return list(dict.fromkeys(found))


def show(value: Any) -> str:
    """The value as a person wrote it, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _sentences(error: ValidationError) -> Iterator[str]:
    key = ".".join(str(part) for part in error.absolute_path)
    node: Node = error.schema if isinstance(error.schema, Mapping) else {}
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        for name in sorted(set(error.instance) - set(node["properties"])):
            yield _unknown(f"{key}.{name}" if key else name)
    elif "propertyNames" in [str(part) for part in error.absolute_schema_path]:
        yield f"{key} has {show(error.instance)}: that is not a name it can have."
    elif error.validator != "required":  # the two paths: `resolve_config` asks for them
        yield f"{key or 'The config'} is {show(error.instance)}: allowed is {allowed(node)}."


def _unknown(key: str) -> str:
    """Names the nearest key: of the whole path first, then of its last word in any section."""
    known = known_keys()
    last = key.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == last]
    near = same or difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    if not near:
        words = {name.rpartition(".")[2]: name for name in known}
        near = [words[word] for word in difflib.get_close_matches(last, words, n=1)]
    hint = f"did you mean {' or '.join(near)}?" if near else "config/README.md lists them all."
    return f"Unknown setting {show(key)[1:-1]}: {hint}"


def allowed(node: Node) -> str:
    """What a setting takes, in words."""
    if "allowed" in node:
        return str(node["allowed"])
    if "enum" in node:
        return "one of " + ", ".join(map(str, node["enum"]))
    kind = node.get("type")
    if kind in ("integer", "number"):
        return _range("a whole number" if kind == "integer" else "a number", node)
    if kind == "array":
        return f"a list without repeats, each {allowed(node['items'])}"
    words = {"boolean": "true or false", "object": "a section (keys with values)"}
    return words.get(str(kind), "text")


def _range(noun: str, node: Node) -> str:
    if "exclusiveMinimum" in node:
        return f"{noun} above {node['exclusiveMinimum']}, up to {node['maximum']}"
    return f"{noun} from {node['minimum']} to {node['maximum']}"


def _unwritable(value: Any, key: str = "") -> Iterator[str]:
    """What passes a schema and still is no JSON: nan, infinity, halves of characters."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from _unwritable(name, key)
            yield from _unwritable(child, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for child in value:
            yield from _unwritable(child, key)
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{key} is {value}: allowed is a finite number."
    elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        yield f"{show(key)[1:-1]} has {show(value)}, which is not text."
