"""Settings that go by servers' names, under the names that URLs have."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from distributed_downloader.errors import ConfigError
from distributed_downloader.urls.authorities import DEFAULT_PORTS
from distributed_downloader.urls.entries import host_entry_of, key_of, pattern_of

Value = TypeVar("Value")


def servers_by_name(politeness: Mapping[str, Any]) -> dict[str, Any]:
    """`politeness.servers` as `budgets` looks them up.

    Raises ConfigError for a key that is no server (by a table it may be a group's name, which
    `check_budgets` judges), and for two keys that are one server.
    """
    is_by_table = politeness["group_by"] == "table"

    def name_of(key: str) -> str:
        return key_of(key) if is_by_table else pattern_of(key, "politeness.servers")

    return _by_name(politeness["servers"], "politeness.servers", name_of)


def hosts_by_name(hosts: Mapping[str, str]) -> dict[str, str]:
    """`hosts` as they are looked up. Raises ConfigError as above."""
    return _by_name(hosts, "hosts", lambda name: host_entry_of(name, "hosts"))


def _by_name(
    given: Mapping[str, Value], place: str, name_of: Callable[[str], str]
) -> dict[str, Value]:
    found: dict[str, Value] = {}
    spelled: dict[str, str] = {}
    for key, value in given.items():
        name = name_of(key)
        same = spelled.setdefault(_one_server(name), key)
        if same != key:
            raise ConfigError(
                f"{place} has both '{same}' and '{key}', which are one server: keep one of them."
            )
        found[name] = value
    return found


def _one_server(name: str) -> str:
    """The same for a host's two default ports, which are one server."""
    host, _, port = name.rpartition(":")
    is_address = ":" in host and not host.endswith("]")
    is_default = port in map(str, DEFAULT_PORTS.values()) and not is_address
    return f"{host}:" if host and is_default else name
