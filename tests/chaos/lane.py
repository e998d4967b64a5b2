"""One output folder after the other, each filled by runs that are killed until one finishes."""

import random
import shutil
import subprocess
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import psutil

from distributed_downloader.records import State
from tests.chaos.hands import as_listed
from tests.chaos.judge import FINAL, OK, Files, asked, impolite, look, wrong_words
from tests.chaos.kills import (
    HARMLESS,
    LOOK_S,
    TWICE_S,
    Kill,
    Moment,
    draw,
    stage_of,
    strike,
    wait_until,
)
from tests.chaos.modes import IMAGE, INSIDE
from tests.chaos.places import Log, Place
from tests.chaos.rounds import (
    CONFIG,
    DEADLINE_S,
    KEPT,
    MOST_MB,
    RATE,
    SLACK,
    UNFLUSHED_S,
    WE_ARE,
    Ground,
    Round,
)
from tests.wire_server import CERTIFICATE, EXPIRED
from tests.workflow.conftest import Workflow
from tests.workflow.drill import MARK, Kills, Run


class Lane:
    """Plays rounds on its own servers and folders."""

    def __init__(self, ground: Ground, root: Path) -> None:
        self._ground, self._root = ground, root
        self._dice = random.Random(f"{ground.seed}/{ground.number}")
        self._log = Log(ground.log, ground.places)
        root.mkdir()
        self._trusted = root / "trusted.pem"  # the others are signed by strangers
        self._trusted.write_bytes(CERTIFICATE.read_bytes() + EXPIRED.read_bytes())
        self._folder = -1
        self._run: Run | None = None
        self._new_folder()

    def _new_folder(self) -> None:
        self._folder += 1
        self._files = Files()
        self._kills = Kills()
        self._begin = self._seen = len(self._log.accesses())  # lines of the servers' log
        self._hand = next(self._ground.hands)
        given = self._hand.words(self._ground.places)
        self._rows = len(given)
        self._words = as_listed(given)
        self._spared = {url for url, words in self._words.items() if words == IMAGE}
        folder = self._root / str(self._folder)
        folder.mkdir(parents=True)
        table = folder / "urls.txt"
        table.write_text("\n".join(given) + "\n")
        places = {"path_to_input": str(table), "path_to_output": str(folder / "out")}
        config = {**CONFIG, **places, "profile": {"samples": self._folder % 2}}
        self._workflow = Workflow(folder, config | self._ways(), self._variables())

    def _ways(self) -> dict[str, Any]:
        """How names are found: by a table; by the proxy, if addresses are guarded."""
        if not self._hand.is_guarded:
            return {"hosts": {p.host: p.address for p in self._places()}}
        return {
            "hosts": {"inside.test": INSIDE},
            "downloader_parameters": {**CONFIG["downloader_parameters"], **WE_ARE},
            "politeness": {**CONFIG["politeness"], "allow_private_addresses": False},
        }

    def _variables(self) -> dict[str, str]:
        way = {"HTTP_PROXY": self._ground.proxy.url} if self._hand.is_guarded else {}
        return {"SSL_CERT_FILE": str(self._trusted), **way}

    def _places(self) -> list[Place]:
        return [self._ground.places[mode] for mode in self._hand.modes]

    def play(self) -> Round:
        """One round: a run, a kill, its end, and what must hold then."""
        done = Round(self._ground.number, self._folder, time.monotonic(), self._hand)
        self._kills.begin(done.began)
        run = self._start()
        try:
            if wait_until(
                draw(self._dice),
                run,
                has_asked=lambda: len(self._log.accesses()) > self._seen,
                look=lambda: _weigh(run, done),
            ):
                _weigh(run, done)
                done.stage = stage_of(run)
                done.at_s = time.monotonic() - done.began
                done.kill = strike(run, self._dice)
            last = run
            if done.kill is Kill.WORKFLOW:  # the same command at once, while the wave works on
                run.process.wait()
                last = self._start(run.mark)
                done.again_s = self._kill_soon(last, done)
            said = self._end(last, done)
            self._wait_for_all(run, done)
            done.gone_s = time.monotonic() - done.began - done.at_s
            if done.kill not in HARMLESS:  # others may cost nothing
                struck = done.began + (done.again_s or done.at_s)
                self._kills.add(struck)
            self._judge(done, last.process.returncode, said)
        finally:
            run.close()
        if done.faults:
            self._keep(done, said)
        if done.is_finished:
            shutil.rmtree(self._root / str(self._folder))
            self._new_folder()
        return done

    def _kill_soon(self, run: Run, done: Round) -> float | None:
        """Every other time the second command is ended, too: while it takes over, or at work."""
        moment = Moment(at_work=False, after_s=self._dice.uniform(0, TWICE_S))
        is_spared = self._dice.random() < 0.5
        if is_spared or not wait_until(moment, run, lambda: True, lambda: _weigh(run, done)):
            return None
        at_s = time.monotonic() - done.began
        for process in run.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return at_s

    def _keep(self, done: Round, said: str) -> None:
        """What a person needs to see what went wrong."""
        KEPT.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f"lane-{done.lane}-", dir=KEPT))
        shutil.copytree(self._root / str(self._folder), place, dirs_exist_ok=True)
        (place / "said.txt").write_text(said)
        done.faults.append(f"see {place}")

    def _start(self, mark: str = "") -> Run:
        mark = mark or uuid.uuid4().hex
        self._run = Run(self._workflow.start(**{MARK: mark}), mark)
        return self._run

    def close(self) -> None:
        """Leave no process behind, whatever ended the drill."""
        for process in self._run.processes() if self._run else ():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _end(self, run: Run, done: Round) -> str:
        """Wait for the command's own end; what it said."""
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                return run.process.communicate(timeout=LOOK_S)[0]
            except subprocess.TimeoutExpired:
                _weigh(run, done)
            if time.monotonic() > end:
                done.faults.append("the command did not end in time")
                run.process.kill()
                end += DEADLINE_S

    def _wait_for_all(self, run: Run, done: Round) -> None:
        end = time.monotonic() + DEADLINE_S
        while left := run.processes():
            if time.monotonic() > end:
                done.faults.append(f"{len(left)} processes did not end in time")
                for process in left:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                return
            time.sleep(LOOK_S)

    def _judge(self, done: Round, exit_code: int, said: str) -> None:
        before, out = self._files, self._root / str(self._folder)
        now = look(self._workflow.config, out / "copy", self._rows)
        done.exit_code, done.states = exit_code, now.states
        done.faults += now.faults
        done.faults += wrong_words(now, self._words)
        log = self._log.accesses()
        self._judge_requests(done, before, log)
        if lost := before.urls(OK) - now.urls(OK):
            done.faults.append(f"{len(lost)} images were there, and are lost: {sorted(lost)[:3]}")
        if done.peak_mb > MOST_MB:
            done.faults.append(f"a rank took {done.peak_mb:.0f} MB")
        if exit_code == 0:
            done.is_finished = True
            done.faults += self._unfinished(now)
            done.faults += impolite(log[self._begin :], RATE, 2 + SLACK)
        elif done.kill in (Kill.NONE, Kill.WORKFLOW, Kill.DECODER) and not done.again_s:
            done.faults.append(f"exit code {exit_code}: {said[-300:]}")
        self._files, self._seen = now, len(log)

    def _judge_requests(self, done: Round, before: Files, log: pl.DataFrame) -> None:
        """No row that was final is asked again; what a kill cost lay before it by seconds only."""
        fresh = asked(log[self._seen :])
        if settled := before.urls(*FINAL) & set(fresh["url"]):
            done.faults.append(f"{len(settled)} finished rows were asked: {sorted(settled)[:3]}")
        answered = asked(log[self._begin :]).filter(status=200)
        failed = before.urls(State.FAILED_RETRYABLE)  # answered, but too slowly for a busy machine
        asked_again = (self._spared - failed) & set(fresh["url"])
        for url, times in answered.group_by("url").agg("monotonic").iter_rows():
            if url in asked_again and len(times) > 1:
                self._judge_again(done, times[-2], times[-1])
        self._judge_guard(done)
        if done.unflushed_s > UNFLUSHED_S:
            done.faults.append(f"a kill cost what was {done.unflushed_s:.1f} s old")

    def _judge_guard(self, done: Round) -> None:
        """Behind the proxy nothing was asked for but what the public may ask for."""
        allowed = {place.name for place in self._places()}
        targets = {urlsplit(words.partition(" ")[2]).hostname for words in self._ground.proxy.asked}
        if strangers := targets - allowed if self._hand.is_guarded else set():
            done.faults.append(f"the proxy was asked for {sorted(map(str, strangers))}")

    def _judge_again(self, done: Round, answered: float, again: float) -> None:
        cost = self._kills.cost(answered, again)
        if cost is not None:
            done.again += 1
            done.unflushed_s = max(done.unflushed_s, cost)
        elif answered < done.began:
            done.faults.append("a row was asked again, though its run had ended in its own time")

    def _unfinished(self, now: Files) -> list[str]:
        lost = self._spared - now.urls(OK)
        left = {state: n for state, n in now.states.items() if n and state not in FINAL}
        faults = [f"not final: {left}"] if left else []
        return faults + ([f"{len(lost)} images never came: {sorted(lost)[:3]}"] if lost else [])


def _weigh(run: Run, done: Round) -> None:
    """The most that a rank has taken so far, as the kernel counts it (VmHWM)."""
    for rank in run.ranks():
        with suppress(OSError, StopIteration):
            status = Path(f"/proc/{rank.pid}/status").read_text()
            line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            done.peak_mb = max(done.peak_mb, int(line.split()[1]) / 1024)
