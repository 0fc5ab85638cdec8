"""Seeds: no two coordinates share one, and a coordinate that cannot be packed is refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.errors import ConfigError
from oel_core.seeds import derive_seed, episode_seed
from oel_core.types import Split

Place = tuple[Split, int, int, int]
COORDINATES = st.tuples(
    st.sampled_from(list(Split)), st.integers(0, 63), st.integers(0, 127), st.integers(0, 2**17 - 1)
)


@given(st.integers(0, 2**16 - 1), st.lists(COORDINATES, min_size=2, max_size=50, unique=True))
def test_different_coordinates_never_share_a_seed(
    loop_seed: int, coordinates: list[tuple[Split, int, int, int]]
) -> None:
    seeds = [episode_seed(loop_seed, *place) for place in coordinates]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_splits_of_a_whole_run_are_disjoint() -> None:
    places = itertools.product(Split, range(4), range(10), range(200))
    seeds = [episode_seed(7, *place) for place in places]
    assert len(set(seeds)) == len(seeds)


def test_loop_seeds_give_other_episodes() -> None:
    assert episode_seed(0, Split.EXTRACT, 1, 0, 0) != episode_seed(1, Split.EXTRACT, 1, 0, 0)


@pytest.mark.parametrize("place", [(64, 0, 0), (0, 128, 0), (0, 0, 2**17), (-1, 0, 0)])
def test_coordinates_that_have_no_seed_are_refused(place: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="no seed of its own"):
        episode_seed(0, Split.EXTRACT, *place)


def test_derived_seeds_depend_on_every_part_and_their_order() -> None:
    seeds = {derive_seed(*parts) for parts in [("a", 1), ("a", 2), ("b", 1), (1, "a"), ("a", 1, "")]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
