"""`report.html`: the summary as one page that needs nothing else, for people and server operators.

Everything in it comes from strangers or from users: the template escapes all of it.
"""

import json
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from distributed_downloader import wording
from distributed_downloader.accounts import figures
from distributed_downloader.accounts.summary import Summary
from distributed_downloader.durable import read_json, write_text
from distributed_downloader.house import house
from distributed_downloader.records import State
from distributed_downloader.settings import Settings
from distributed_downloader.wording import one_line

TEMPLATE = "report.html.j2"
SHOWN_FILES = 20  # of the input
MOST_SERVERS = 200  # rows of the table; the rest is added up in one
PACKAGES = ("polite-image-downloader", "snakemake", "httpx", "aiohttp", "polars", "h5py", "pillow")
NO_FAILURE = (State.PENDING, State.IGNORED, State.REMOVED)
SHOWN_HEADERS = ("user-agent", "from")  # others may hold a key


def write_report(settings: Settings, summary: Summary) -> None:
    """Write the page, durably."""
    write_text(settings.paths.report, render(settings, summary))


def render(settings: Settings, summary: Summary) -> str:
    """The page as HTML."""
    timeline = summary["timeline"]
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            summary=summary,
            states=_states(summary),
            stack=figures.stack(summary["states"]),
            chart=figures.bars_over_time(dict(timeline["images"]), timeline["width_s"]),
            servers=server_table(summary),
            provenance=_provenance(settings, summary),
            config=json.dumps(_shown_config(settings.raw), indent=2, ensure_ascii=False),
        )
    )


def server_table(summary: Summary) -> list[dict[str, Any]]:
    """Groups with their servers, most rows first; what is over MOST_SERVERS is added up.

    `rest` is the number of servers that a record adds up, 0 for a server of its own.
    """
    groups = {group["group"]: group for group in summary["groups"]}
    shown, hidden = summary["servers"][:MOST_SERVERS], summary["servers"][MOST_SERVERS:]
    table: dict[str, dict[str, Any]] = {}
    for server in shown:
        name = server["group"]
        entry = table.setdefault(name, {"group": name, "audit": groups.get(name), "servers": []})
        entry["servers"].append({**server, "rest": 0, "without": _without(server)})
    if hidden:
        table[""] = {"group": None, "audit": None, "servers": [_added_up(hidden)]}
    return list(table.values())


def _added_up(servers: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {"server": "", "rest": len(servers), "rows": 0, "rate_limit": None}
    for key in ("states", "errors"):
        total[key] = {}
        for server in servers:
            for word, rows in server[key].items():
                total[key][word] = total[key].get(word, 0) + rows
    total["rows"] = sum(server["rows"] for server in servers)
    return {**total, "without": _without(total)}


def _without(server: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Rows that have no image, most first: failures by class, others by state."""
    states = {word: rows for word, rows in server["states"].items() if word in NO_FAILURE}
    found = Counter(states) + Counter(server["errors"])
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def _states(summary: Summary) -> list[dict[str, Any]]:
    return [
        {
            "state": state.value,
            "label": wording.STATES[state],
            "rows": summary["states"][state],
            "share": wording.share(summary["states"][state], summary["rows"]),
        }
        for state in State
    ]


def _provenance(settings: Settings, summary: Summary) -> list[tuple[str, str]]:
    source = read_json(settings.paths.source) or {}
    facts = [
        ("Input", settings.path_to_input),
        *(("Input file", text) for text in _files(source.get("files", []))),
        ("Input rows", wording.count(summary["rows"])),
        ("Output", str(settings.paths.root)),
        ("Said who we are", settings.header.get("User-Agent", "no User-Agent was set")),
        ("Counted", wording.moment(summary["written"])),
        ("Python", platform.python_version()),
    ]
    return facts + [(package, _version(package)) for package in PACKAGES]


def _files(files: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for file in files[:SHOWN_FILES]:
        digest = f", SHA-256 {file['sha256']}" if file.get("sha256") else ""
        yield f"{file['path']} ({wording.size(file['bytes'])}{digest})"
    if len(files) > SHOWN_FILES:
        yield f"and {wording.count(len(files) - SHOWN_FILES)} more"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def _shown_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The config without the values of headers that may hold a key."""
    section = dict(raw.get("downloader_parameters", {}))
    if isinstance(section.get("header"), Mapping):
        section["header"] = {
            name: value if name.lower() in SHOWN_HEADERS else "(not shown)"
            for name, value in section["header"].items()
        }
    return {**raw, "downloader_parameters": section}


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(house() / "workflow" / "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=wording.count,
        duration=wording.duration,
        size=wording.size,
        moment=wording.moment,
        why=wording.why,
        line=lambda value: one_line(str(value)),
    )
    environment.globals["share"] = wording.share
    return environment
