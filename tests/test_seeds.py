"""Seeds: no two coordinates share one, and a coordinate that cannot be packed is refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.errors import ConfigError
from oel_core.seeds import derive_seed, episode_seed, narrow_seed, reference_seed
from oel_core.types import Split

Place = tuple[Split, int, int, int]
EARLY = st.tuples(st.sampled_from(list(Split)), st.integers(0, 63), st.integers(0, 127), st.integers(0, 2**17 - 1))
LATE = st.tuples(
    st.sampled_from(list(Split)), st.integers(64, 2**16 - 1), st.integers(0, 2**17 - 1), st.integers(0, 2**17 - 1)
)
PAPERS_LAST = reference_seed(0, Split.DISTILL, 63, 0, 9_999)


@given(st.integers(0, 2**16 - 1), st.lists(EARLY | LATE, min_size=2, max_size=50, unique=True))
def test_different_coordinates_never_share_a_seed(loop_seed: int, coordinates: list[Place]) -> None:
    seeds = [episode_seed(loop_seed, *place) for place in coordinates]
    assert len(set(seeds)) == len(seeds)


@given(st.integers(0, 2**16 - 1), EARLY, LATE)
def test_seeds_of_later_rounds_lie_above_those_of_earlier_ones(loop_seed: int, early: Place, late: Place) -> None:
    assert 0 <= episode_seed(loop_seed, *early) < 2**32
    assert max(2**32, PAPERS_LAST) < episode_seed(loop_seed, *late) < 2**53  # exact in every reader of JSON


@pytest.mark.parametrize(
    ("place", "seed"),
    [
        ((0, Split.EXTRACT, 1, 0, 0), 2582362846),
        ((7, Split.HELD_OUT, 63, 127, 131_071), 2089746),
    ],
)
def test_seeds_of_projects_that_have_begun_stay(place: tuple[int, Split, int, int, int], seed: int) -> None:
    assert episode_seed(*place) == seed


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_a_generator_of_32_bits_takes_a_seed_that_fits_as_it_is(seed: int) -> None:
    assert narrow_seed(seed, 0, "any") == seed
    assert narrow_seed(seed, 1, "any") == derive_seed("any", seed, 1) % 2**32


def test_a_generator_of_32_bits_gets_other_seeds_for_wide_ones() -> None:
    wide = [narrow_seed(2**52 + number, attempt, "any") for number in range(500) for attempt in range(2)]
    assert len(set(wide)) == len(wide)
    assert all(0 <= seed < 2**32 for seed in wide)


def test_the_splits_of_a_whole_run_are_disjoint() -> None:
    places = itertools.product(Split, range(4), range(10), range(200))
    seeds = [episode_seed(7, *place) for place in places]
    assert len(set(seeds)) == len(seeds)


def test_loop_seeds_give_other_episodes() -> None:
    assert episode_seed(0, Split.EXTRACT, 1, 0, 0) != episode_seed(1, Split.EXTRACT, 1, 0, 0)


@pytest.mark.parametrize(
    "place", [(2**16, 0, 0), (0, 128, 0), (64, 2**17, 0), (0, 0, 2**17), (64, 0, 2**17), (-1, 0, 0)]
)
def test_coordinates_that_have_no_seed_are_refused(place: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="no seed of its own"):
        episode_seed(0, Split.EXTRACT, *place)


def test_derived_seeds_depend_on_every_part_and_their_order() -> None:
    seeds = {derive_seed(*parts) for parts in [("a", 1), ("a", 2), ("b", 1), (1, "a"), ("a", 1, "")]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
