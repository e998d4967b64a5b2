import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from distributed_downloader.likeness.groups import GROUPS, LIKENESSES, groups_of
from distributed_downloader.likeness.perceptual import MIN_CONTRAST


def images(*hashes, contrast=50.0):
    rows = [(f"u{at}", f"{value:016x}", contrast, "a", 0) for at, value in enumerate(hashes)]
    return pl.DataFrame(rows, LIKENESSES, orient="row")


def told(groups):
    return set(groups.select("uuid_main", "uuid", "distance").iter_rows())


def test_the_first_image_is_the_main_of_those_near_it():
    groups = groups_of(images(0xFF00, 0x0, 0xFF01, 0xFF00), 2)
    assert told(groups) == {("u0", "u0", 0), ("u0", "u2", 1), ("u0", "u3", 0)}
    assert groups.schema == GROUPS


def test_likeness_is_not_passed_on():
    chain = [0b0, 0b11, 0b1111, 0b111111]
    groups = groups_of(images(*chain), 2)
    assert told(groups) == {("u0", "u0", 0), ("u0", "u1", 2), ("u2", "u2", 0), ("u2", "u3", 2)}


def test_an_image_without_contrast_is_like_no_other():
    blank = images(5, 5, contrast=MIN_CONTRAST / 2)
    assert groups_of(blank, 6).is_empty()


def test_no_images_have_no_groups():
    assert groups_of(images(), 6).schema == GROUPS


@given(st.lists(st.integers(0, 2**12 - 1), max_size=40), st.integers(0, 4))
def test_members_are_near_their_main_and_mains_far_from_each_other(hashes, distance):
    table = images(*(value << 3 for value in hashes))
    groups = groups_of(table, distance)
    numbers = {uuid: int(text, 16) for uuid, text in table.select("uuid", "phash").iter_rows()}
    assert groups["uuid"].is_unique().all()
    for main, uuid, bits in told(groups):
        assert (numbers[main] ^ numbers[uuid]).bit_count() == bits <= distance
    mains = {*groups["uuid_main"], *(numbers.keys() - set(groups["uuid"]))}
    far = [(one, other) for one in mains for other in mains if one < other]
    assert all((numbers[one] ^ numbers[other]).bit_count() > distance for one, other in far)
