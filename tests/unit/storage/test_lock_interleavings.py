"""Contenders for one lock, cut between any two steps: a scheduler says whose step comes next."""

import itertools
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_downloader.errors import LockError
from distributed_downloader.storage.holder import Holder, Probe, own_holder, process_started
from distributed_downloader.storage.lock import Lock
from distributed_downloader.storage.lock_files import Seen
from distributed_downloader.storage.lock_watch import Clock

PATH = Path("/out/run.lock")
DEAD_PID = 999_999_999


def dead_holder(nonce="dead"):
    me = own_holder(nonce, "a run that was killed", environ={})
    values = {name: getattr(me, name) for name in Holder.__slots__}
    return Holder(**values | {"pid": DEAD_PID, "started": "1"})


class Killed(BaseException):
    """As by kill -9: no handler of the code under test stops it."""


PAUSE_S = 0.3  # longer than a contender sleeps between two looks


class Scheduler:
    """Lets one thread take one step at a time.

    Time passes when the chosen one sleeps; others may be kept from their next step meanwhile, as a
    busy machine does, but for no longer than PAUSE_S.
    """

    def __init__(self, choose, kill_at=()):
        self.now = 0.0
        self._choose = choose
        self._kill_at = set(kill_at)
        self._turns = {}  # name -> semaphore, time to wake, time when that was said
        self._steps = itertools.count()
        self._idle = threading.Semaphore(0)
        self._current = threading.local()

    def step(self, sleep_s=0.0):
        name = self._current.name
        self._turns[name][1:] = [self.now + sleep_s, self.now]
        self._idle.release()
        self._turns[name][0].acquire()
        if next(self._steps) in self._kill_at:
            raise Killed

    def run(self, **tasks):
        """Run the tasks to their ends; their results, or what they raised, by name."""
        results = {}

        def work(name, task):
            self._current.name = name
            self._turns[name][0].acquire()
            try:
                results[name] = task()
            except (LockError, Killed) as error:
                results[name] = error
            del self._turns[name]
            self._idle.release()

        threads = [threading.Thread(target=work, args=item) for item in tasks.items()]
        self._turns = {name: [threading.Semaphore(0), 0.0, 0.0] for name in tasks}
        for thread in threads:
            thread.start()
        while self._turns:
            self._next()[0].release()
            self._idle.acquire()
        for thread in threads:
            thread.join()
        return results

    def _next(self):
        latest = min(max(wake, asked) for _, wake, asked in self._turns.values()) + PAUSE_S
        ready = sorted(name for name, (_, wake, _) in self._turns.items() if wake <= latest)
        turn = self._turns[self._choose(ready)]
        self.now = max(self.now, turn[1])
        return turn


class Disk:
    """The steps of LockFiles in memory, each atomic, as file systems have them."""

    def __init__(self, scheduler):
        self._scheduler = scheduler
        self._times = itertools.count(1)
        self.files = {}

    def put(self, path, content):
        self.files[path] = [content, next(self._times)]

    def read(self, path):
        self._scheduler.step()
        content, time = self.files.get(path, (None, 0))
        return None if content is None else Seen(content, (0, time))

    def create(self, path, content):
        self._scheduler.step()
        if path in self.files:
            return False
        self.put(path, content)
        return True

    def rename(self, path, to):
        self._scheduler.step()
        if path not in self.files:
            return False
        self.files[to] = self.files.pop(path)
        return True

    def remove(self, path):
        self._scheduler.step()
        self.files.pop(path, None)

    def siblings(self, path, mark):
        self._scheduler.step()
        return sorted(p for p in self.files if p.name.startswith(f"{path.name}.{mark}-"))

    def beat(self, path, content):
        self._scheduler.step()
        if path in self.files and self.files[path][0] == content:
            self.files[path][1] = next(self._times)


class Race:
    """Some contenders start at once for a lock whose holder is dead; winners hold on to it."""

    NAMES = "abc"

    def __init__(self, choose, *, contenders, kill_at=()):
        self.scheduler = Scheduler(choose, kill_at)
        self.disk = Disk(self.scheduler)
        self.disk.put(PATH, dead_holder().to_bytes())
        self._running = set(self.NAMES[:contenders])
        self.acquired = []

    def contend(self, name):
        try:
            lock = self.acquire()
            self.acquired.append(name)
        finally:
            self._running.discard(name)
        while self._running:
            lock.beat()
            lock.check()
            self.scheduler.step(sleep_s=1.0)
        lock.check()
        return lock

    def acquire(self):
        # the fake pid of the dead is gone; all contenders live in this very process
        probe = Probe(
            process_started=lambda pid: None if pid == DEAD_PID else process_started(pid),
            slurm_job_is_over=lambda job: None,
        )
        clock = Clock(now=lambda: self.scheduler.now, sleep=self.scheduler.step)
        return Lock.acquire(PATH, role="a run", clock=clock, probe=probe, files=self.disk)

    def run(self):
        names = sorted(self._running)
        return self.scheduler.run(**{name: lambda name=name: self.contend(name) for name in names})

    def assert_exactly_one_won(self, results):
        winners = [result for result in results.values() if isinstance(result, Lock)]
        assert len(winners) == len(self.acquired) == 1, results
        assert set(self.disk.files) == {PATH}, "nothing is left beside the lock"
        assert self.disk.files[PATH][0] == winners[0].content


def switching_at(switches):
    """Go on with whoever is at work, but at these steps, where the n-th other one goes on."""
    steps, last = itertools.count(), []

    def choose(ready):
        step = next(steps)
        current = last[0] if last and last[0] in ready else ready[0]
        if step in switches:
            others = [name for name in ready if name != current] or [current]
            current = others[switches[step] % len(others)]
        last[:] = [current]
        return current

    return choose


LONGEST = 36  # steps until both have found out


@pytest.mark.parametrize("first", range(LONGEST))
def test_two_contenders_with_two_switches_anywhere(first):
    for second in range(first, LONGEST):
        race = Race(switching_at({first: 0, second: 0}), contenders=2)
        race.assert_exactly_one_won(race.run())


@pytest.mark.parametrize("first", range(0, LONGEST, 2))
def test_three_contenders_with_two_switches_anywhere(first):
    for second, who in itertools.product(range(first + 1, LONGEST), (0, 1)):
        race = Race(switching_at({first: 0, second: who}), contenders=3)
        race.assert_exactly_one_won(race.run())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=150), st.integers(2, 3))
def test_any_order_of_steps_has_exactly_one_winner(order, contenders):
    choices = iter(order)
    race = Race(lambda ready: ready[next(choices, 0) % len(ready)], contenders=contenders)
    race.assert_exactly_one_won(race.run())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=100), st.sets(st.integers(0, 60), max_size=2))
def test_contenders_killed_at_any_step_keep_nobody_out(order, kill_at):
    choices = iter(order)
    race = Race(lambda ready: ready[next(choices, 0) % len(ready)], contenders=3, kill_at=kill_at)
    results = race.run()
    assert sum(isinstance(result, Lock) for result in results.values()) <= 1, results
    for result in results.values():
        if isinstance(result, Lock):  # its owner dies here, too
            race.disk.files[PATH] = [dead_holder(result.nonce).to_bytes(), 0]
    began = race.scheduler.now
    race.scheduler._kill_at = set()
    heir = race.scheduler.run(heir=race.acquire)["heir"]
    assert isinstance(heir, Lock)
    assert race.disk.files[PATH][0] == heir.content
    assert race.scheduler.now - began < 70
    assert set(race.disk.files) == {PATH}


TO_RENAME = "aa"  # a judged the dead one, and is about to rename whatever stands there
TAKES_OVER = "bbbbbbbb"  # b judges, renames, looks, removes, sleeps, finds no file and no stray


@pytest.mark.parametrize(
    ("script", "contenders"),
    [
        # b creates its lock, a renames it away, b checks before it is back
        pytest.param(TO_RENAME + TAKES_OVER + "bbbb" + "a" + "b", 2, id="holder checks"),
        # c finds no file before b creates its lock, and creates its own while a has b's in hand
        pytest.param(TO_RENAME + TAKES_OVER + "ccc" + "bbbbb" + "a" + "c", 3, id="third creates"),
        pytest.param(TO_RENAME + TAKES_OVER + "ccc" + "bbbb" + "a" + "cb", 3, id="both"),
    ],
)
def test_holder_that_is_renamed_away_by_mistake_gets_it_back(script, contenders):
    names, missed = iter(script), []

    def choose(ready):
        wanted = next(names, ready[0])
        missed.extend([wanted] if wanted not in ready else [])
        return wanted if wanted in ready else ready[0]

    race = Race(choose, contenders=contenders)
    results = race.run()
    assert not missed, "the script must fit the steps of the code"
    race.assert_exactly_one_won(results)
    assert race.acquired == ["b"]
