import math

import pytest

from distributed_downloader.waves.news import Tally
from distributed_downloader.waves.nodes import PACE_S, Watch, node_hours, should_end


def test_a_node_is_idle_once_its_last_rank_has_nothing_to_do():
    ranks = [("a", 3600.0), ("a", 600.0), ("b", 1800.0), ("b", 900.0)]
    hours = node_hours(ranks, 3600.0)
    assert (hours.nodes, hours.used, hours.idle) == (2, 2.0, 0.5)


def test_a_rank_that_ended_after_the_wave_was_timed_costs_nothing_negative():
    assert node_hours([("a", 11.0)], 10.0).idle == 0.0


WORTH_S = 600.0
LONG = WORTH_S + 1


@pytest.mark.parametrize(
    ("left_s", "nodes", "ends"),
    [
        ([LONG, 0, 0, 0], 4, True),  # one big server is left
        ([LONG, LONG, 0, 0], 4, True),
        ([LONG, LONG, LONG, 0], 4, False),  # three of four nodes work
        ([WORTH_S, 0, 0, 0], 4, False),  # over soon anyway
        ([LONG, 0], 1, False),  # one node cannot be halved
        ([LONG, 5, 5, 5, 0, 0, 0, 0], 4, True),  # four ranks fit on two nodes
        ([LONG] * 5 + [0, 0, 0], 4, False),
        ([0, 0, 0, 0], 4, False),  # all done: it ends by itself
        ([math.inf, 0, 0, 0], 4, True),
    ],
)
def test_a_wave_ends_early_if_half_of_its_nodes_would_wait_for_long(left_s, nodes, ends):
    assert should_end(dict(enumerate(left_s)), nodes, WORTH_S) is ends


@pytest.fixture
def watched():
    """Four ranks on four nodes; the first settles 10 rows a second, the others are soon done."""

    class Watched:
        time = 0.0

        def __init__(self):
            self.watch = Watch(WORTH_S, lambda: self.time)

        def ends_after(self, total, upto_s, known=4):
            while self.time < upto_s:
                big = Tally(total, min(total, int(10 * self.time)), node="node0")
                small = {
                    rank: Tally(50, min(50, int(self.time)), node=f"node{rank}")
                    for rank in range(1, known)
                }
                if self.watch.should_end({0: big, **small}, 4):
                    return self.time
                self.time += 1.0
            return None

    return Watched()


def test_one_big_server_does_not_hold_all_nodes(watched):
    assert watched.ends_after(total=100_000, upto_s=2 * WORTH_S) == WORTH_S


def test_a_wave_that_is_nearly_done_goes_on_to_its_end(watched):
    total = int(10 * (2 * WORTH_S - PACE_S))
    assert watched.ends_after(total, upto_s=2 * WORTH_S) is None


def test_nothing_is_decided_before_every_rank_was_heard_of(watched):
    assert watched.ends_after(total=100_000, upto_s=2 * WORTH_S, known=3) is None
