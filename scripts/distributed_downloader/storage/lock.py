"""One run per output folder, and one writer per run: locks that outlive nobody.

1. A lock is a file that is created whole and exclusively, and says who holds it (`holder.Holder`).
2. It is dead when `holder.Probe` says so; no two clocks are ever compared.
3. A dead lock is renamed away to a unique name. What was renamed must be what was judged; else it
   is put back, never over another. Who created the file while one is on its way back withdraws.
4. None of this stops a process that slept through its own funeral: a writer calls `check` before
   each commit, and ends when the file no longer holds its nonce.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed_downloader.errors import LockError
from distributed_downloader.paths import OutputPaths
from distributed_downloader.storage.holder import BEAT_S, Holder, Probe, own_holder
from distributed_downloader.storage.lock_files import LockFiles, Seen
from distributed_downloader.storage.lock_watch import POLL_S, Clock, Watch

RETURN_S = 2.0  # how long a lock that was renamed away by mistake may take to come back
PATIENCE_S = 180.0  # how long a writer may take to store what it has, once asked to


class Lock:
    """A lock that this process holds, until `check` says otherwise."""

    def __init__(self, path: Path, me: Holder, clock: Clock, files: LockFiles) -> None:
        self.path = path
        self.holder = me
        self.content = me.to_bytes()
        self.clock = clock
        self.files = files
        self._lost = ""  # how, once it is

    @property
    def nonce(self) -> str:
        """What tells this acquisition from all others."""
        return self.holder.nonce

    @classmethod
    def acquire(
        cls,
        path: Path,
        *,
        role: str,
        wait_s: float = 0.0,
        clock: Clock | None = None,
        probe: Probe | None = None,
        files: LockFiles | None = None,
    ) -> "Lock":
        """Hold the lock, taking over a dead one; wait up to `wait_s` for a live one to end.

        A holder proves that it lives by its next heartbeat, a few seconds; a silent one is given
        `probe.stale_s`. Let it beat at once, or others will take this one for dead.
        Raises LockError: who holds it, and the way out.
        """
        me = own_holder(uuid.uuid4().hex, role)
        lock = cls(path.absolute(), me, clock or Clock(), files or LockFiles())
        _Attempt(lock, probe or Probe()).run(wait_s)
        return lock

    def check(self) -> None:
        """Raise LockError unless the lock is ours. Call it before each commit.

        A contender may have renamed it away by mistake and be putting it back: that is waited for,
        once. Who was told that it is lost is told so again at once, also if it came back later.
        """
        if self._lost:
            raise LockError(self._lost)
        end = self.clock.now() + 1.5 * RETURN_S
        while (seen := self.files.read(self.path)) is None or seen.content != self.content:
            may_return = seen is None or self.files.siblings(self.path, "away")
            if not may_return or self.clock.now() >= end:
                self._lost = _lost(self.path, seen)
                raise LockError(self._lost)
            self.clock.sleep(POLL_S / 5)

    def beat(self) -> None:
        """Show that we live."""
        self.files.beat(self.path, self.content)

    def keep_beating(self, every_s: float = BEAT_S) -> Callable[[], None]:
        """Beat from a thread of its own, until the process ends or what this returns is called."""
        over = threading.Event()

        def beat_on() -> None:
            while not over.wait(every_s):
                self.beat()

        thread = threading.Thread(target=beat_on, name=f"heartbeat-{self.path.name}", daemon=True)
        self.beat()
        thread.start()

        def stop() -> None:
            over.set()
            thread.join()

        return stop

    @contextmanager
    def heartbeat(self, every_s: float = BEAT_S) -> Iterator[None]:
        """Beat until the block ends."""
        stop = self.keep_beating(every_s)
        try:
            yield
        finally:
            stop()

    def release(self) -> None:
        """Give it up, if it is still ours; a second call does nothing."""
        seen = self.files.read(self.path)
        if seen is not None and seen.content == self.content:
            take_away(self, seen)
        self.files.remove(stop_file(self.path, self.nonce))

    def stop_requested(self) -> bool:
        """Whether somebody asked us to end soon (see `request_stop`)."""
        return self.files.read(stop_file(self.path, self.nonce)) is not None


class _Attempt:
    """One contender's way to a lock."""

    def __init__(self, lock: Lock, probe: Probe) -> None:
        self._lock, self._path, self._files = lock, lock.path, lock.files
        self._probe = probe.asking_slurm_once()
        self._watch = Watch(lock.clock)
        self._strays = Watch(lock.clock)

    def run(self, wait_s: float) -> None:
        """Until the lock is ours; LockError if a live one stays for `wait_s`."""
        end = self._lock.clock.now() + wait_s
        while not self._step(gives_up=self._lock.clock.now() >= end):
            self._lock.clock.sleep(POLL_S)
        for request in self._files.siblings(self._path, "stop"):
            self._files.remove(request)  # to holders before us

    def _step(self, *, gives_up: bool) -> bool:
        """Look once and do what can be done; True when the lock is ours."""
        seen = self._files.read(self._path)
        if seen is None:
            return self._no_strays() and self._create()
        self._watch.look(seen)
        if self._probe.is_dead(seen.holder, self._lock.holder, self._watch.quiet_s):
            take_away(self._lock, seen)
        elif self._watch.has_beaten and gives_up:
            raise LockError(held(self._path, seen.holder))
        return False

    def _no_strays(self) -> bool:
        """Whether nobody has the lock in hand; what one who died had in hand goes back."""
        strays = self._files.siblings(self._path, "away")
        seen = self._files.read(strays[0]) if strays else None
        if seen is None:
            return not strays
        self._strays.look(seen)
        if self._strays.quiet_s > RETURN_S:
            self._files.create(self._path, seen.content)
            self._files.remove(strays[0])
        return False

    def _create(self) -> bool:
        if not self._files.create(self._path, self._lock.content):
            return False
        if not self._files.siblings(self._path, "away"):
            return True
        self._lock.release()  # one that lives may be on its way back: after it, please
        return False


def take_away(by: Lock, seen: Seen) -> bool:
    """Remove the lock file that was `seen`; another that stands there by now is put back."""
    away = by.path.with_name(f"{by.path.name}.away-{uuid.uuid4().hex}")
    if not by.files.rename(by.path, away):
        return False
    renamed = by.files.read(away)
    if renamed is None:
        return False
    is_it = seen.is_same_lock(renamed)
    end = by.clock.now() + RETURN_S
    while not is_it and not by.files.create(by.path, renamed.content) and by.clock.now() < end:
        by.clock.sleep(POLL_S / 5)
    by.files.remove(away)
    return is_it


def stop_file(path: Path, nonce: str) -> Path:
    """The request to this holder of this lock."""
    return path.with_name(f"{path.name}.stop-{nonce}")


def request_stop(path: Path, nonce: str | None = None) -> None:
    """Ask that holder (None: whoever holds it now, if anybody) to flush and end.

    Short enough for a signal handler.
    """
    files = LockFiles()
    if nonce is None:
        seen = files.read(path)
        if seen is None or seen.holder is None:
            return
        nonce = seen.holder.nonce
    files.create(stop_file(path, nonce), b"stop\n")


def stop_orphan(
    paths: OutputPaths,
    *,
    tell: Callable[[str], None],
    patience_s: float = PATIENCE_S,
    clock: Clock | None = None,
    probe: Probe | None = None,
) -> None:
    """End the writer that a dead run left behind; a new run, holding its run lock, calls this.

    Returns when no such writer holds the writer lock: a dead one's is removed, a live one is asked
    to store what it has, of which the person is told. Raises LockError if it stays for
    `patience_s`, or if it is a job that no run started.
    """
    here = Lock(paths.writer_lock, own_holder("", "a new run"), clock or Clock(), LockFiles())
    probe = (probe or Probe()).asking_slurm_once()
    watch, end, asked = Watch(here.clock), here.clock.now() + patience_s, set[str]()
    while (seen := here.files.read(here.path)) and not _has_a_run(seen, paths, probe):
        writer = seen.holder
        watch.look(seen)
        if probe.is_dead(writer, here.holder, watch.quiet_s):
            take_away(here, seen)
        elif here.clock.now() >= end or (writer and not writer.run and watch.has_beaten):
            raise LockError(held(here.path, writer))
        elif writer and writer.run and writer.nonce not in asked:
            asked.add(writer.nonce)
            request_stop(here.path, writer.nonce)
            tell(f"An earlier run left {writer} at work: it now stores what it has and ends.")
        here.clock.sleep(POLL_S)
    for request in here.files.siblings(here.path, "stop") if not seen else ():
        here.files.remove(request)


def _has_a_run(writer: Seen, paths: OutputPaths, probe: Probe) -> bool:
    """Whether the run that started this writer still holds the run lock, and lives."""
    run = LockFiles().read(paths.run_lock)
    if run is None or run.holder is None or writer.holder is None:
        return False
    me = own_holder("", "")
    return run.holder.nonce == writer.holder.run and not probe.is_dead(run.holder, me, 0.0)


def held(path: Path, holder: Holder | None) -> str:
    """The sentence for who comes second."""
    who = str(holder) if holder else "somebody whose lock file cannot be read"
    return (
        f"{path.parent} is in use by {who}: wait until it ends or stop it there, "
        "or choose another path_to_output."
    )


def _lost(path: Path, seen: Seen | None) -> str:
    by = f"taken over by {seen.holder}" if seen and seen.holder else "removed"
    return (
        f"{path} was {by} while this process was silent, so it writes nothing more: "
        "run the same command again when nothing else works in that folder."
    )
