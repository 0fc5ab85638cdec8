"""Which episodes are planned, and that layouts do not cross splits."""

from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core import envs
from oel_core.envs.base import EnvSpec
from oel_core.envs.shares import layout_share
from oel_core.errors import ConfigError, EnvironmentError_
from oel_core.rollouts import layouts
from oel_core.rollouts.layouts import layouts_of
from oel_core.rollouts.planning import EpisodePlan, count_layouts, plan_episodes
from oel_core.types import Split
from tests.fakes import CORRIDOR, CorridorEnv

SPEC = EnvSpec("corridor")


class WideEnv(CorridorEnv):
    """A corridor with many layouts, of which it counts how often one is made."""

    made: ClassVar[Counter[int]] = Counter()

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        super().__init__(spec, seed)
        self.made[seed] += 1
        self.layout = f"wide-{seed % 500}"
        if spec.options.get("broken") and seed % 3 == 0:
            raise EnvironmentError_("no such place")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, *CORRIDOR)
    monkeypatch.setitem(envs.REGISTRY, "wide", "tests.rollouts.test_planning:WideEnv")
    monkeypatch.setattr(layouts, "_cached", {})


def test_ids_and_positions() -> None:
    plans = plan_episodes(SPEC, 0, Split.EXTRACT, 1, 3, 8, False)
    assert plans[7].id == "r01-extract-k03-e0007"
    assert [plan.index for plan in plans] == list(range(8))
    assert plan_episodes(SPEC, 0, Split.HELD_OUT, 0, 0, 1, False)[0].id == "r00-held_out-k00-e0000"


@given(
    st.integers(0, 9), st.integers(0, 5), st.integers(0, 5), st.sampled_from(Split), st.integers(0, 6), st.booleans()
)
def test_a_longer_plan_starts_with_the_shorter(
    loop: int, round_index: int, replica: int, split: Split, count: int, by_layout: bool
) -> None:
    spec = EnvSpec("wide")
    longer = plan_episodes(spec, loop, split, round_index, replica, count + 3, by_layout)
    assert plan_episodes(spec, loop, split, round_index, replica, count, by_layout) == longer[:count]
    assert len({plan.seed for plan in longer}) == count + 3


def test_no_layout_is_in_two_shares_and_all_shares_are_used() -> None:
    spec = EnvSpec("wide")
    found: dict[str, set[str]] = {"train": set(), "validation": set(), "held_out": set()}
    for split, share in ((Split.EXTRACT, "train"), (Split.DISTILL, "train"), *((s, s.value) for s in list(Split)[2:])):
        for loop_seed in (0, 1):
            plans = plan_episodes(spec, loop_seed, split, 1, 0, 60, True)
            found[share] |= {*layouts_of(spec, [plan.seed for plan in plans])}
            assert [plan.index for plan in plans] == list(range(60))
    assert None not in set.union(*found.values())
    assert not found["train"] & found["validation"]
    assert not found["train"] & found["held_out"]
    assert not found["validation"] & found["held_out"]
    assert all(len(keys) > 20 for keys in found.values())


def test_shares_are_about_70_10_20() -> None:
    shares = Counter(layout_share(f"layout-{number}") for number in range(5000))
    assert shares["train"] / 5000 == pytest.approx(0.7, abs=0.03)
    assert shares["validation"] / 5000 == pytest.approx(0.1, abs=0.02)
    assert shares["held_out"] / 5000 == pytest.approx(0.2, abs=0.03)


def test_a_world_with_too_few_layouts_cannot_be_split() -> None:
    one = EnvSpec("corridor", {"size": 3})
    shares = {layout_share(f"corridor-3-{goal}") for goal in (0, 2)}
    empty = next(split for split in (Split.VALIDATION, Split.HELD_OUT) if split.value not in shares)
    with pytest.raises(ConfigError, match="too few layouts"):
        plan_episodes(one, 0, empty, 1, 0, 1, True)


def test_an_environment_is_made_once_a_seed_and_not_at_all_without_the_split() -> None:
    WideEnv.made.clear()
    spec = EnvSpec("wide")
    plans = plan_episodes(spec, 0, Split.HELD_OUT, 1, 0, 20, False)
    assert not WideEnv.made
    assert count_layouts(spec, plans) == len({plan.seed % 500 for plan in plans})
    plan_episodes(spec, 0, Split.HELD_OUT, 1, 0, 20, True)
    assert set(WideEnv.made.values()) == {1}


def test_options_have_their_own_layouts() -> None:
    four, five = (layouts_of(EnvSpec("corridor", {"size": size}), [0]) for size in (4, 5))
    assert four != five


def test_seeds_that_cannot_be_made_are_skipped() -> None:
    spec = EnvSpec("wide", {"broken": True})
    plans = plan_episodes(spec, 0, Split.EXTRACT, 1, 0, 30, True)
    assert all(plan.seed % 3 for plan in plans)
    broken = EpisodePlan("x", 3, Split.EXTRACT, 1, 0, 0)
    assert count_layouts(spec, [broken]) == 0


def test_an_unknown_environment_and_a_coordinate_without_a_seed() -> None:
    with pytest.raises(ConfigError, match="corridor"):
        plan_episodes(EnvSpec("coridor"), 0, Split.EXTRACT, 1, 0, 1, True)
    with pytest.raises(ConfigError, match=f"round {2**20}"):
        plan_episodes(SPEC, 0, Split.EXTRACT, 2**20, 0, 1, False)
