"""`make drill`: runs that are killed again and again, against servers of every bad kind.

python -m tests.chaos [--rounds 100] [--seconds 900] [--lanes 4] [--seed N]

Prints a line a round and a summary; exit 1 if anything did not hold, or if time was too short for
all rounds.
"""

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import Queue

from tests.chaos.hands import deal, turns
from tests.chaos.lane import Lane
from tests.chaos.modes import MODES
from tests.chaos.rounds import DEADLINE_S, MOST_MB, UNFLUSHED_S, Ground, Round
from tests.chaos.servers import serving
from tests.forward_proxy import ForwardProxy, forwarding_beside

MEMORY = Path("/dev/shm")
COLUMNS = "round  lane/folder  stage      what was ended   after  all gone  exit  final"
COLUMNS += "   ok  asked again  unflushed  rank MB"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=900, help="no round begins after these")
    parser.add_argument("--lanes", type=int, default=4, help="output folders at a time")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    return parser.parse_args()


def main() -> int:
    given = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    began = time.monotonic()
    print(f"seed {given.seed}, {len(MODES)} modes: {'; '.join(MODES)}\n{COLUMNS}", flush=True)
    rounds = list(play(given, began))
    print(summary(rounds, time.monotonic() - began))
    print(coverage(rounds))
    if len(rounds) < given.rounds:
        print(
            f"CUT SHORT: only {len(rounds)} of {given.rounds} rounds began within "
            f"{given.seconds:g} s. Give it more time (make drill SECONDS={2 * given.seconds:g}), "
            "or a machine with less to do."
        )
    return 1 if any(done.faults for done in rounds) or len(rounds) < given.rounds else 0


def play(given: argparse.Namespace, began: float) -> Sequence[Round]:
    """All rounds, on all lanes."""
    told: Queue[Round | BaseException] = Queue()
    tickets = iter(range(given.rounds))
    guard = threading.Lock()

    def may_begin() -> bool:
        with guard:
            return time.monotonic() - began < given.seconds and next(tickets, None) is not None

    def work(lane: Lane) -> None:
        try:
            while may_begin():
                told.put(lane.play())
        except BaseException as error:
            told.put(error)
        told.put(StopIteration())

    rounds: list[Round] = []
    with ExitStack() as stack:
        place = MEMORY if MEMORY.is_dir() else None  # else what a kill costs is the disk's patience
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drill-", dir=place)))
        working = given.lanes
        for lane in lanes(given, root, stack):
            threading.Thread(target=work, args=(lane,), daemon=True).start()
        while working:
            one = told.get()
            if isinstance(one, Round):
                rounds.append(one)
                print(line(len(rounds), one), flush=True)
            elif isinstance(one, StopIteration):
                working -= 1
            else:
                raise one
    return rounds


def lanes(given: argparse.Namespace, root: Path, stack: ExitStack) -> Sequence[Lane]:
    """Each with its servers and its proxy; the stack ends all of it."""
    log, places = stack.enter_context(serving(given.lanes))
    hands = deal(given.seed)
    found = []
    for number, its_places in enumerate(places):
        addresses = {place.host: place.address for place in its_places.values()}
        proxy = stack.enter_context(forwarding_beside(ForwardProxy(addresses=addresses)))
        ground = Ground(
            number, given.seed, turns(hands, number, given.lanes), its_places, log, proxy
        )
        found.append(Lane(ground, root / str(number)))
        stack.callback(found[-1].close)
    return found


def line(number: int, done: Round) -> str:
    """A row of the table, and what did not hold."""
    rows = sum(done.states.values())
    final = rows - done.states.get("pending", 0) - done.states.get("failed_retryable", 0)
    text = (
        f"{number:>5}  {f'{done.lane}/{done.folder}':>11}  {done.stage:<9}  {what(done):<15}"
        f"  {done.at_s:4.1f} s  {done.gone_s:6.1f} s  {done.exit_code:>4}  {final:>5}"
        f"  {done.states.get('ok', 0):>3}  {done.again:>11}  {done.unflushed_s:7.1f} s"
        f"  {done.peak_mb:>7.0f}"
    )
    return "\n".join([text, *(f"       FAULT: {fault}" for fault in done.faults)])


def what(done: Round) -> str:
    """What was ended."""
    return f"{done.kill}, again" if done.again_s else str(done.kill)


def summary(rounds: Sequence[Round], seconds: float) -> str:
    """What all of it came to."""
    kills = Counter(map(what, rounds))
    counted = ", ".join(f"{count} x {kill}" for kill, count in kills.most_common())
    faults = sum(len(done.faults) for done in rounds)
    again = sum(done.again for done in rounds)
    oldest = max((done.unflushed_s for done in rounds), default=0.0)
    peak = max((done.peak_mb for done in rounds), default=0.0)
    slowest = max((done.gone_s for done in rounds), default=0.0)
    finished = sum(done.is_finished for done in rounds)
    return (
        f"{len(rounds)} rounds in {seconds:.0f} s; ended: {counted}.\n"
        f"{finished} folders finished; {again} rows fetched again, at most {oldest:.1f} s old "
        f"(allowed {UNFLUSHED_S:g}); slowest end {slowest:.1f} s (allowed {DEADLINE_S:g} each); "
        f"largest rank {peak:.0f} MB (allowed {MOST_MB:g}).\n"
        f"{faults or 'no'} fault{'' if faults == 1 else 's'}: every state counted, no image lost, "
        "none twice, no finished row asked again."
        if not faults
        else f"{len(rounds)} rounds in {seconds:.0f} s: {faults} faults, see above."
    )


def coverage(rounds: Sequence[Round]) -> str:
    """How often each mode was met to its end, and which were not."""
    met = Counter(mode for done in rounds if done.is_finished for mode in done.hand.modes)
    never = [mode for mode in MODES if not met[mode]]
    left = f"; too few rounds for {'; '.join(never)}" if never else ""
    return (
        f"{len(MODES) - len(never)} of {len(MODES)} modes were met to their end{left}. "
        "A row that ended otherwise than its mode may is a fault."
    )


if __name__ == "__main__":
    sys.exit(main())
