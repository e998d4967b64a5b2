"""Work on pieces by several threads, in order, with few pieces in memory.

polars uses all cores for one piece only where its columns are alike and long; two pieces at once
keep them busy. (It lets go of Python's lock while it works.)
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def in_order(
    workers: Executor, work: Callable[[Piece], Result], pieces: Iterable[Piece], ahead: int
) -> Iterator[Result]:
    """What `work` makes of each piece, in their order; at most `ahead` wait or are worked on."""
    waiting: deque[Future[Result]] = deque()
    for piece in pieces:
        waiting.append(workers.submit(work, piece))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
