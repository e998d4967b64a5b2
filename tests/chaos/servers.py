"""All modes at work, for all lanes, with one log."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from distributed_downloader.fleet.plan import FleetPlan, HostPlan, Special, Trick
from distributed_downloader.fleet.running import Fleet, image_paths, running_fleet
from tests.chaos.modes import FLEET_MODES, GUARDED, REDIRECTING
from tests.chaos.places import Place
from tests.chaos.raw import running_raw


@contextmanager
def serving(lanes: int) -> Iterator[tuple[Path, list[dict[str, Place]]]]:
    """The log of all servers, and for each lane its places by mode."""
    plans = [plan for lane in range(lanes) for plan in _plans(lane)]
    with ExitStack() as stack:
        fleet = stack.enter_context(running_fleet(FleetPlan(hosts=tuple(plans))))
        raw = stack.enter_context(running_raw(lanes, fleet.log))
        places: list[dict[str, Place]] = [{} for _ in range(lanes)]
        for place in (*_fleet_places(fleet), *raw):
            places[_lane(place.name)][place.mode] = place
        yield fleet.log, places


def _lane(name: str) -> int:
    return int(name.removesuffix(".test").rpartition("-")[2])


def _plans(lane: int) -> list[HostPlan]:
    plans = [
        mode.plan(f"{name}-{lane}.test", f"127.{60 + lane}.0.{number}")
        for number, (name, mode) in enumerate(FLEET_MODES.items(), 1)
    ]
    return [*plans, _redirecting(f"{REDIRECTING}-{lane}.test", f"127.{60 + lane}.0.250")]


def _redirecting(name: str, address: str) -> HostPlan:
    plan = HostPlan(name=name, address=address, images=len(GUARDED), photos="tiny")
    paths = zip(image_paths(plan), GUARDED, strict=True)
    specials = [Special(trick=Trick.REDIRECT, paths=(path,), to=to) for path, to in paths]
    return replace(plan, specials=tuple(specials))


def _fleet_places(fleet: Fleet) -> Iterator[Place]:
    for plan in fleet.plan.hosts:
        mode = plan.name.removesuffix(".test").rpartition("-")[0]
        if mode == REDIRECTING:
            rows = dict(zip(image_paths(plan), GUARDED.values(), strict=True))
        else:
            rows = FLEET_MODES[mode].rows(plan)
        yield Place(mode, plan.name, plan.name, plan.address, fleet.url(plan.name, ""), rows)
