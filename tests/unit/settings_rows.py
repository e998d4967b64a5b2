"""The settings as config/README.md lists them, made from the schema."""

import json
from collections.abc import Iterator
from typing import Any

from distributed_downloader.configuration.schema import allowed, schema

PATTERN = "<server>"


def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every setting that is no section; those of one server under `<server>`."""
    for name, child in node.get("properties", {}).items():
        yield from (
            leaves(child, f"{prefix}{name}.")
            if "properties" in child
            else [(f"{prefix}{name}", child)]
        )
        if "properties" in (server := child.get("additionalProperties") or {}):
            yield from leaves(server, f"{prefix}{name}.{PATTERN}.")


def row(key: str, node: dict[str, Any]) -> str:
    """`| key | default | allowed | description |`."""
    default = f"`{json.dumps(node['default'])}`" if "default" in node else ""
    limits = "anything" if "type" not in node else allowed(node)
    return f"| `{key}` | {default} | {limits} | {node['description']} |"


def rows() -> list[str]:
    """One for each setting, in the schema's order."""
    return [row(key, node) for key, node in leaves(schema())]
