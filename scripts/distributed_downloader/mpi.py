"""The ranks of one job, and the only room that knows of MPI.

A blocking MPI wait burns a core, so everything here is asked without waiting and slept between.
"""

import asyncio
import faulthandler
import os
import re
import signal
from collections.abc import Iterator
from typing import Any, Protocol

from distributed_downloader.errors import LauncherError

FIRST_POLL_S, POLL_S = 0.001, 0.05  # ranks often arrive together; else they wait long
START_S = 300  # until all ranks are there, from the start of the first
LEAVE_S = 60  # what MPI's own end may take
OVER_TCP = {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"}  # for mpich
CHOSEN_BY = frozenset({"MPIR_CVAR_CH4_NETMOD", "MPICH_CH4_NETMOD"})
_UCX_OR_OFI = re.compile(r"^MPICH Device:\s+ch4:ucx[ ,]+ofi\b", re.MULTILINE)
_NEWS = 7  # the tag of messages between ranks


class World(Protocol):
    """All ranks of one job, seen from one of them."""

    rank: int
    size: int

    def tell(self, rank: int, message: Any) -> None:
        """Send a small message without waiting."""

    def heard(self) -> Iterator[Any]:
        """Messages that have arrived, without waiting."""

    async def barrier(self) -> None:
        """Wait, asleep, until every rank is here."""

    async def fall_silent(self) -> None:
        """Take in all that is still on its way; nobody tells anything from here on."""

    def share(self, value: Any) -> Any:
        """Rank 0's value at every rank; right after a barrier only."""

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value at rank 0, an empty list elsewhere; right after a barrier only."""


class Solo:
    """A world of one rank, without MPI."""

    rank = 0
    size = 1

    def __init__(self) -> None:
        self._inbox: list[Any] = []

    def tell(self, rank: int, message: Any) -> None:  # noqa: ARG002  only rank 0 exists
        """Keep the message for ourselves."""
        self._inbox.append(message)

    def heard(self) -> Iterator[Any]:
        """Hand out what was told."""
        while self._inbox:
            yield self._inbox.pop(0)

    async def barrier(self) -> None:
        """Nobody to wait for."""

    async def fall_silent(self) -> None:
        """Forget what was told."""
        self._inbox.clear()

    def share(self, value: Any) -> Any:
        """Our own value."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """Our own value."""
        return [value]


class MpiWorld:
    """A world over MPI's communicator of everybody."""

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self._sending: list[Any] = []
        self._sent = [0] * self.size  # messages, by rank
        self._received = 0

    def tell(self, rank: int, message: Any) -> None:
        """Send without waiting; requests that ended are dropped here."""
        self._sending = [request for request in self._sending if not request.Test()]
        self._sending.append(self._comm.isend(message, dest=rank, tag=_NEWS))
        self._sent[rank] += 1

    def heard(self) -> Iterator[Any]:
        """Receive what is already here: the first look may only let it in, the second sees it."""
        while self._comm.iprobe(tag=_NEWS) or self._comm.iprobe(tag=_NEWS):
            self._received += 1
            yield self._comm.recv(tag=_NEWS)

    async def barrier(self) -> None:
        """Ask and sleep: a waiting rank leaves its core to the others."""
        request, naps = self._comm.Ibarrier(), _naps()
        while not request.Test():
            await asyncio.sleep(next(naps))

    async def fall_silent(self) -> None:
        """Receive every message that was sent: MPI_Finalize fails, or hangs, on one that was not.

        For all ranks together, when none tells anything any more.
        """
        together, naps = self._comm.Ibarrier(), _naps()
        while not together.Test():  # the barrier's own message waits behind those
            await self._take_in(next(naps))
        expected = sum(self._comm.alltoall(self._sent))
        while self._received < expected or not all(request.Test() for request in self._sending):
            await self._take_in(next(naps))

    async def _take_in(self, nap_s: float) -> None:
        for _ in self.heard():
            pass
        await asyncio.sleep(nap_s)

    def share(self, value: Any) -> Any:
        """MPI's own broadcast."""
        return self._comm.bcast(value, root=0)

    def gather(self, value: Any) -> list[Any]:
        """MPI's own gather: every rank has just passed a barrier, so nobody waits long."""
        return self._comm.gather(value, root=0) or []


def _naps() -> Iterator[float]:
    """Seconds between looks: short ones first, each twice the one before."""
    nap_s = FIRST_POLL_S
    while True:
        yield nap_s
        nap_s = min(2 * nap_s, POLL_S)


def open_world(ranks: int) -> World:
    """The world this process was started into; LauncherError if it is not `ranks` large.

    A launcher that does not match the MPI library silently starts copies of rank 0 of 1: without
    this check each would do all the work. If not all ranks are there after `START_S`, this process
    says where it waited, and ends as a failure: so the launcher ends the others, too.
    """
    faulthandler.dump_traceback_later(START_S, exit=True)
    try:
        world = MpiWorld(_start_mpi())
        if world.size != ranks:
            raise LauncherError(
                f"{ranks} ranks were asked for, but this one sees {world.size}: the MPI launcher "
                "and the MPI library of mpi4py do not match. Set `mpi` of rule download_images in "
                "the profile to the launcher of that library (mpich: mpiexec, or srun --mpi=pmi2)."
            )
        asyncio.run(world.barrier())
    finally:
        faulthandler.cancel_dump_traceback_later()
    return world


def _start_mpi() -> Any:
    """Everybody's communicator. The library says what it is before it begins."""
    import mpi4py  # noqa: PLC0415  only ranks may

    mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
    from mpi4py import MPI  # noqa: PLC0415

    if needs_short_addresses(MPI.Get_library_version()):
        os.environ.update(OVER_TCP)
    if not MPI.Is_initialized():  # by a wave before, in the same process
        MPI.Init_thread()
    return MPI.COMM_WORLD


def needs_short_addresses(library: str) -> bool:
    """Whether srun starts an mpich that has a choice, and nobody said what it shall talk over.

    Over UCX it gives each node's address as 4,096 bytes, most of them whatever lies behind it in
    memory, and Slurm's pmi2 cuts lines at 1,024: depending on that, some starts failed, and some
    waited for ever (pmodels/mpich issue 6924). Over OFI an address has 16 bytes.
    """
    has_choice = _UCX_OR_OFI.search(library) is not None
    return has_choice and "SLURM_STEP_ID" in os.environ and CHOSEN_BY.isdisjoint(os.environ)


def leave_in_time(seconds: int = LEAVE_S) -> None:
    """Have this process end, as a failure, if MPI_Finalize never comes back.

    Call it last: all is stored, and no rank waits for another. Seen once: a rank that waited there
    for ever, for a launcher that had nothing more to say. The same command then goes on.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
