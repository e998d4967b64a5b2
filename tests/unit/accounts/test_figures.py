import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.accounts.figures import (
    HEIGHT,
    WIDTH,
    bars_over_time,
    nice_ceiling,
    stack,
)


def test_no_images_no_chart():
    assert bars_over_time({}, 1) is None


@given(
    st.dictionaries(st.integers(0, 59), st.integers(1, 10**7), min_size=1), st.sampled_from([1, 60])
)
def test_bars_stay_in_the_field_and_in_proportion(images, width_s):
    chart = bars_over_time({start * width_s: value for start, value in images.items()}, width_s)
    assert len(chart.bars) == len(images)
    top = nice_ceiling(max(images.values()))
    for bar in chart.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= WIDTH + 0.02
        assert bar.y + bar.height == pytest.approx(HEIGHT, abs=0.02)
        assert bar.height == pytest.approx(HEIGHT * bar.value / top, abs=0.01)


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (1, 1), (3, 4), (9, 10), (10, 10), (11, 20), (61, 80), (601, 800)]
)
def test_axis_ends_at_a_round_number(value, top):
    assert nice_ceiling(value) == top


def test_stack_fills_the_width_and_leaves_out_nothing_but_nothing():
    bars = stack({"ok": 3, "pending": 0, "failed": 1})
    assert [(bar.label, bar.width) for bar in bars] == [
        ("ok", WIDTH * 0.75),
        ("failed", WIDTH * 0.25),
    ]
    assert stack({"ok": 0}) == []
