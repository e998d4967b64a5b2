"""The summary as a few lines for a person at a terminal."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO

from rich.console import Console
from rich.text import Text

from distributed_downloader.accounts.summary import Summary
from distributed_downloader.logs import erased
from distributed_downloader.paths import OutputPaths
from distributed_downloader.records import State
from distributed_downloader.wording import STATES, count, duration, moment, one_line, share

LABEL_WIDTH = 14
MOST_LINES = 5  # of one kind; the rest is in the report

Line = tuple[str, str]  # label (or nothing, when it goes on), text


def print_summary(summary: Summary, stream: TextIO) -> None:
    """Short and aligned; labels are bold on a terminal, plain text anywhere else."""
    print_lines(_lines(summary), stream)


def print_places(paths: OutputPaths, stream: TextIO) -> None:
    """Where the dataset and the page about it lie."""
    print_lines([("Dataset", str(paths.images)), ("Report", str(paths.report))], stream)


def print_lines(lines: Iterable[Line], stream: TextIO) -> None:
    """Labels and texts, below each other."""
    stream.write(erased(stream))
    console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
    for label, text in lines:
        line = Text(f"{label:<{LABEL_WIDTH}}", style="bold")
        console.print(line.append(one_line(text), style="not bold"))


def _lines(summary: Summary) -> Iterator[Line]:
    yield from rows_of(summary)
    given_up = [
        f"{count(item['rows']):>9}  {item['why']}{_at(item['most'], item['servers'])}"
        for item in summary["given_up"]
    ]
    if summary["copied"]:
        yield "Copied", f"{count(summary['copied']):>9}  images came from previous_output"
    if summary["unchanged"]:
        yield "Unchanged", f"{count(summary['unchanged']):>9}  images were asked for again"
    gone = summary["tombstones"]
    if gone:
        yield "Not listed", f"{count(sum(gone.values())):>9}  rows that the list had once"
    yield from _listed("Given up", given_up)
    policy = [
        f"{count(item['rows']):>9}  {item['server']}: {item['why']} ({item['setting']})"
        for item in summary["policy"]
    ]
    yield from _listed("Not allowed", policy)
    refused = {item["error_class"] for item in summary["policy"]} - {State.IGNORED.value}
    if refused:
        words = ", ".join(sorted(refused))
        yield "", f"{'':>9}  changed a setting? `retry_failed: [{words}]` asks for these again"
    removed = [
        f"{count(item['rows']):>9}  {item['tool']}: {item['reason']}{_again(item['refetch'])}"
        for item in summary["removals"]
    ]
    yield from _listed("Removed", removed)
    blocked = [
        f"{count(item['left']):>9}  {item['group']}, until {moment(item['blocked_until'])}: "
        f"{item['cause']}"
        for item in summary["blocked"]
    ]
    yield from _listed("Blocked", blocked)
    yield "Time", _time(summary)
    if max((wave["nodes"] for wave in summary["waves"]), default=0) > 1:
        yield "Nodes", _nodes(summary["node_hours"])
    requests = sum(group["requests"] for group in summary["groups"])
    refusals = sum(group["refusals"] for group in summary["groups"])
    yield "Requests", f"{count(requests):>9}  refused by servers: {_refused(refusals, requests)}"
    yield from what_next(summary)


def rows_of(summary: Summary) -> Iterator[Line]:
    """How many rows are in each state."""
    rows, states = summary["rows"], summary["states"]
    images = states[State.OK]
    yield "Images", f"{count(images):>9}  of {count(rows, 'row')} ({share(images, rows)})"
    label = "Other rows"
    for state in State:
        if state is not State.OK and states[state]:
            yield label, f"{count(states[state]):>9}  {STATES[state]}"
            label = ""


def _listed(label: str, texts: list[str]) -> Iterator[Line]:
    shown = texts if len(texts) == MOST_LINES + 1 else texts[:MOST_LINES]
    for number, text in enumerate(shown):
        yield ("" if number else label), text
    if len(texts) > len(shown):
        yield "", f"{'':>9}  and {len(texts) - len(shown)} more: see the report"


def _at(servers: list[str], total: int) -> str:
    if total == 1:
        return f", at {servers[0]}"
    return f", at {count(total)} servers, most at {servers[0]}"


def _again(refetch: bool) -> str:
    return ", to be fetched again" if refetch else ""


def _time(summary: Summary) -> str:
    waves = count(len(summary["waves"]), "wave")
    text = f"{duration(summary['used_s']):>9}  in {waves}"
    if summary["lower_bound_s"]:
        text += (
            f"; keeping to the servers' limits costs at least {duration(summary['lower_bound_s'])}"
        )
    return text


def _nodes(hours: Mapping[str, float]) -> str:
    return f"{hours['used']:>9.3g}  node-hours, {share(hours['idle'], hours['used'])} of them idle"


def _refused(refusals: int, requests: int) -> str:
    return f"{count(refusals)} ({share(refusals, requests)})" if refusals else "none"


def what_next(summary: Summary) -> Iterator[Line]:
    """What to do about rows that are left, if any are."""
    if not summary["left"]["left"]:
        return
    left = count(summary["left"]["left"], "row")
    free_at = summary["left"]["free_at"]
    then = f"after {moment(free_at)}, " if free_at else ""
    yield "What next", f"{then}run the same command again: it goes on with the {left} left."
