"""What ranks tell each other: everybody stops, once, and rank 0 knows how far all are."""

import math
from collections import defaultdict

import pytest

from distributed_downloader.waves import news as room
from distributed_downloader.waves.news import News, Stop, Tally, are_resting, progress_of


class World:
    """One of several ranks that share mailboxes."""

    def __init__(self, rank, size, boxes):
        self.rank, self.size, self._boxes = rank, size, boxes

    def tell(self, rank, message):
        self._boxes[rank].append(message)

    def heard(self):
        while self._boxes[self.rank]:
            yield self._boxes[self.rank].pop(0)

    async def fall_silent(self):
        self._boxes[self.rank].clear()


@pytest.fixture
def ranks():
    """Three ranks' news, each with the stops it was given."""
    boxes = defaultdict(list)
    made = []
    for rank in range(3):
        stops = []
        world = World(rank, 3, boxes)
        made.append((News(world, Tally(total=10 * (rank + 1)), stops.append), stops))
    return made


def exchange(ranks, times=2):
    for _ in range(times):
        for news, _ in ranks:
            news.exchange()


@pytest.mark.parametrize("first", [0, 1, 2])
def test_what_stops_one_stops_all_once_and_itself_at_once(ranks, first):
    stop = Stop("the disk is full")
    ranks[first][0].stop_all(stop)
    assert ranks[first][1] == [stop]
    exchange(ranks)
    assert [stops for _, stops in ranks] == [[stop]] * 3
    assert {news.stopped for news, _ in ranks} == {"the disk is full"}
    ranks[first][0].stop_all(Stop("again"))
    exchange(ranks)
    assert [stops for _, stops in ranks] == [[stop]] * 3


def test_two_reasons_at_once_stop_each_rank_once(ranks):
    ranks[1][0].stop_all(Stop("one"))
    ranks[2][0].stop_all(Stop("two"))
    exchange(ranks, times=3)
    assert [len(stops) for _, stops in ranks] == [1, 1, 1]


def test_rank_0_knows_how_far_everybody_is(ranks):
    exchange(ranks)
    assert {rank: tally.total for rank, tally in ranks[0][0].tallies.items()} == {
        0: 10,
        1: 20,
        2: 30,
    }
    assert ranks[1][0].tallies == {}


@pytest.mark.anyio
async def test_who_has_ended_tells_nothing_more(ranks):
    news, stops = ranks[0]
    await news.end()
    news.stop_all(Stop("too late"))
    assert stops == []


def test_tallies_become_one_progress(monkeypatch):
    monkeypatch.setattr(room.time, "time", lambda: 150.0)
    tallies = [
        Tally(total=60, settled=20, images=15, errors=5, bytes=700, blocked=("a.org",)),
        Tally(total=40, settled=5, images=5, bytes=300, blocked=("b.org",)),
    ]
    progress = progress_of(3, tallies, 2, started=100.0)
    assert (progress.done, progress.total, progress.images, progress.errors) == (25, 100, 20, 5)
    assert (progress.images_per_second, progress.predicted_left_s) == (0.4, 150.0)
    assert (progress.bytes, progress.blocked, progress.wave) == (1000, ("a.org", "b.org"), 3)


def test_before_the_first_row_nobody_can_say_how_long_it_takes():
    progress = progress_of(None, [Tally(total=5)], 1, started=0.0)
    assert (progress.stage, progress.predicted_left_s) == ("profile", None)


@pytest.mark.parametrize(
    ("rests_s", "ranks", "is_end"),
    [
        ([31.0, 45.0], 2, True),
        ([31.0, math.inf], 2, True),  # the other one is done
        ([31.0, 0.0], 2, False),  # the other one works: the block may end before that
        ([29.0, math.inf], 2, False),  # worth waiting for
        ([31.0], 2, False),  # nobody has heard of the other one
        ([math.inf, math.inf], 2, False),  # it ends by itself
    ],
)
def test_a_wave_ends_when_all_that_is_left_in_it_rests_for_long(rests_s, ranks, is_end):
    tallies = [Tally(rests_s=seconds) for seconds in rests_s]
    assert are_resting(tallies, ranks, patience_s=30.0) == is_end
