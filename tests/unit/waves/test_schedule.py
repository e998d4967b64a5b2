"""Groups to ranks: who asks whom, with how many ranks, and how long it takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.courtesy.ownership import owner_of_unplanned
from distributed_downloader.waves.schedule import IMAGE_WORK_S, GroupWork, Machine, plan_wave


def work(group: str, rows: int, rate: float = 10.0, **more: float) -> GroupWork:
    return GroupWork(group, rows, rate_limit=rate, rate=rate, **more)


groups_strategy = st.lists(
    st.tuples(st.integers(1, 10_000), st.floats(0.1, 50)), min_size=1, max_size=40
).map(lambda drawn: [work(f"g{i}", rows, rate) for i, (rows, rate) in enumerate(drawn)])


@given(groups_strategy, st.integers(1, 4), st.integers(1, 8))
def test_every_group_belongs_to_exactly_one_rank(groups, nodes, workers):
    plan = plan_wave(groups, Machine(nodes, workers, 1))
    planned = [group.group for rank in plan.ranks for group in rank]
    assert sorted(planned) == sorted(group.group for group in groups)
    assert all(plan.ranks)
    assert len(plan.ranks) <= min(nodes * workers, len(groups))


@given(groups_strategy, st.randoms(use_true_random=False))
def test_the_order_of_groups_does_not_matter(groups, chance):
    machine = Machine(2, 3, 1)
    shuffled = list(groups)
    chance.shuffle(shuffled)
    assert plan_wave(groups, machine) == plan_wave(shuffled, machine)


@given(groups_strategy)
def test_no_plan_is_faster_than_politeness_allows(groups):
    plan = plan_wave(groups, Machine(4, 4, 1))
    assert plan.predicted_s >= plan.lower_bound_s > 0
    slowest = max(group.rows / group.rate_limit for group in groups)
    assert plan.lower_bound_s == pytest.approx(slowest)


def test_longest_work_goes_first_to_the_least_loaded_rank():
    groups = [work("big", 100), work("mid", 60), work("low", 50), work("tiny", 1)]
    plan = plan_wave(groups, Machine(1, 2, 1))
    assert [[group.group for group in rank] for rank in plan.ranks] == [
        ["big", "tiny"],
        ["mid", "low"],
    ]


def test_one_big_group_needs_one_node_however_many_there_are():
    groups = [work("big", 100_000, 1.0), *(work(f"s{i}", 10) for i in range(30))]
    plan = plan_wave(groups, Machine(20, 4, 1))
    assert plan.nodes == 1
    assert plan.bound_group == "big"


def test_nodes_are_taken_when_the_images_alone_need_them():
    rows = 10_000
    groups = [work(f"s{i}", rows, 1000.0) for i in range(8)]
    plan = plan_wave(groups, Machine(4, 2, 1))
    assert plan.nodes == 4
    assert plan.predicted_s == pytest.approx(rows * IMAGE_WORK_S)


def test_ranks_are_no_more_than_groups():
    assert len(plan_wave([work("only", 5)], Machine(4, 4, 1)).ranks) == 1


def test_a_block_is_part_of_the_prediction_and_not_of_the_bound():
    plan = plan_wave([work("blocked", 100, 10.0, blocked_s=30.0)], Machine(1, 1, 1))
    assert plan.predicted_s == pytest.approx(40.0)
    assert plan.lower_bound_s == pytest.approx(10.0)


def test_nothing_left_is_a_plan_without_ranks():
    plan = plan_wave([], Machine(4, 4, 1))
    assert (len(plan.ranks), plan.predicted_s, plan.bound_group) == (0, 0.0, None)


@given(st.text(), st.integers(1, 400))
def test_an_unplanned_group_has_one_owner_among_the_ranks(group, ranks):
    assert owner_of_unplanned(group, ranks) in range(ranks)
    assert owner_of_unplanned(group, ranks) == owner_of_unplanned(group, ranks)


def test_a_group_goes_with_those_that_hold_its_robots_txt():
    groups = [
        work("a", 50, robots_at=frozenset({"cdn", "unlisted"})),
        work("b", 40),
        work("c", 30, robots_at=frozenset({"unlisted"})),
        work("cdn", 20),
        work("d", 10),
    ]
    plan = plan_wave(groups, Machine(1, 2, 1))
    assert [[group.group for group in rank] for rank in plan.ranks] == [
        ["a", "c", "cdn"],
        ["b", "d"],
    ]
    assert plan.robots_owners == {"cdn": 0, "unlisted": 0}
