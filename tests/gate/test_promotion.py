"""The gate's arithmetic: known cases and properties."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_core.config.operation import GateConfig
from oel_core.errors import ArtifactError
from oel_core.evaluation.base import summarise
from oel_core.evaluation.stats import paired_bootstrap
from oel_core.gate.promotion import ModelResults, SuiteResults, Verdict, bootstrap_verdict, compare, paired_differences
from oel_core.types import StopReason, Trajectory
from tests.builders import episode, turn

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def played(outcomes: Sequence[bool], *, tokens: int = 10, cut: int = 0, errors: Sequence[int] = ()) -> list[Trajectory]:
    """One episode an outcome; the first `cut` have a response that hit the token cap."""
    return [
        episode(
            f"e{index}",
            seed=index,
            reward=float(passed),
            turns=[turn(tokens=tokens, stop_reason=StopReason.LENGTH if index < cut else StopReason.EOS)],
            error="broke" if index in errors else None,
        )
        for index, passed in enumerate(outcomes)
    ]


def measured(episodes: Sequence[Trajectory]) -> SuiteResults:
    return SuiteResults(summarise("games", "model", episodes), episodes)


def results(round_index: int, held_out: Sequence[Trajectory], **ood: Sequence[bool]) -> ModelResults:
    return ModelResults(round_index, measured(held_out), {name: measured(played(found)) for name, found in ood.items()})


def verdict(
    candidate: ModelResults, champion: ModelResults, base: ModelResults | None = None, **settings: object
) -> Verdict:
    return bootstrap_verdict(GateConfig.model_validate(settings), candidate, champion, base or champion, seed=1)


def rate(passed: int, episodes: int = 128) -> list[bool]:
    return [index < passed for index in range(episodes)]


def test_a_clearly_better_candidate_is_promoted_with_all_figures() -> None:
    found = verdict(results(2, played(rate(90)), symbols=rate(50)), results(1, played(rate(20)), symbols=rate(52)))
    assert found.promote
    assert not found.refusals
    assert (found.held_out.first, found.held_out.second) == (20 / 128, 90 / 128)
    assert (found.held_out.won, found.held_out.lost) == (70, 0)
    assert found.held_out.low < 70 / 128 < found.held_out.high
    assert found.ood["symbols"].difference == pytest.approx(-2 / 128)
    assert [check.name for check in found.checks] == [
        "episodes",
        "better",
        "ood/symbols",
        "response_length",
        "truncation",
    ]
    assert [check.bound for check in found.checks] == [
        "at least 32",
        "at least 0.95 of the draws are better by more than 0",
        "at least -0.05 beside 0.406",
        "0.33 to 1.5 times the champion's 10.0 tokens",
        "at most 0.05 above the champion's 0.000",
    ]


def test_the_same_model_again_is_not_better() -> None:
    found = verdict(results(2, played(rate(60))), results(1, played(rate(60))))
    assert found.refusals == ["better"]
    assert found.held_out.probability == 0.0


def test_chance_is_not_enough() -> None:
    rng = np.random.default_rng(0)
    before, after = (list(map(bool, rng.random(128) < 0.5)) for _ in range(2))
    found = verdict(results(2, played(after)), results(1, played(before)))
    assert 0.01 < found.held_out.probability < 0.95
    assert found.refusals == ["better"]


def test_better_but_not_by_the_margin_is_refused() -> None:
    sides = results(2, played(rate(70))), results(1, played(rate(60)))
    assert verdict(*sides, margin=0.0).promote
    assert verdict(*sides, margin=0.1).refusals == ["better"]


@pytest.mark.parametrize(("after", "promote"), [(122, True), (121, False)])
def test_out_of_distribution_tolerance_is_exact(after: int, promote: bool) -> None:
    """5% of 128 is 6.4 episodes."""
    sides = results(2, played(rate(90)), s=rate(after)), results(1, played(rate(20)), s=rate(128))
    assert verdict(*sides).promote is promote


def test_small_losses_do_not_add_up_unseen() -> None:
    candidate = results(3, played(rate(90)), s=rate(110))
    champion, base = results(2, played(rate(20)), s=rate(115)), results(0, played(rate(5)), s=rate(125))
    assert verdict(candidate, champion).promote
    assert verdict(candidate, champion, base).refusals == ["ood/s"]
    assert verdict(candidate, champion, base, ood_tolerances={"s": 0.2}).promote


@pytest.mark.parametrize(
    ("after", "refused"),
    [
        ({"tokens": 16}, ["response_length"]),
        ({"tokens": 15}, []),
        ({"tokens": 3}, ["response_length"]),
        ({"cut": 8}, ["truncation"]),
        ({"cut": 6}, []),
    ],
)
def test_lengths_and_truncation_have_bounds(after: dict[str, int], refused: list[str]) -> None:
    found = verdict(results(2, played(rate(90), **after)), results(1, played(rate(20))))  # type: ignore[arg-type]
    assert found.refusals == refused


@pytest.mark.parametrize(
    ("settings", "after"),
    [
        ({"ood_tolerance": 0.05}, {}),
        ({"truncation_rise": 0.05}, {"cut": 5}),
        ({"response_ratio": (0.5, 1.0)}, {"tokens": 5}),
        ({"response_ratio": (1.0, 1.2)}, {"tokens": 12}),
        ({"response_ratio": (1.0, 1.0)}, {}),
    ],
    ids=["tolerance", "truncation", "shorter", "longer", "same length"],
)
def test_a_value_on_its_bound_passes(settings: dict[str, object], after: dict[str, int]) -> None:
    """Suite: 95 against 100 of 100."""
    candidate = results(2, played(rate(90, 100), **after), s=rate(95, 100))  # type: ignore[arg-type]
    assert verdict(candidate, results(1, played(rate(20, 100)), s=rate(100, 100)), **settings).promote


def test_truncation_counts_from_the_champions_own_rate() -> None:
    found = verdict(results(2, played(rate(90), cut=66)), results(1, played(rate(20), cut=64)))
    assert found.promote
    assert found.checks[-1].value == 2 / 128


def test_beside_a_champion_without_a_response_any_length_will_do() -> None:
    found = verdict(results(2, played(rate(90), tokens=500)), results(1, played(rate(20), tokens=0)))
    assert found.promote


def test_too_few_episodes_are_refused_however_clear() -> None:
    sides = results(2, played(rate(8, 8))), results(1, played(rate(0, 8)))
    assert verdict(*sides).refusals == ["episodes"]
    assert verdict(*sides, min_episodes=8).promote


def test_a_broken_measurement_never_helps_the_candidate() -> None:
    champion = played([True, True, False, False], errors=[0])
    candidate = played([True, True, True, True], errors=[1])
    assert paired_differences(champion, candidate) == ([True, False, False], [False, True, True])


def test_other_episodes_cannot_be_compared() -> None:
    moved = [one.model_copy(update={"seed": one.seed + 1}) for one in played(rate(3, 4))]
    for other in (moved, played(rate(3, 5)), played(rate(3, 3))):
        with pytest.raises(ArtifactError, match="measured on different episodes"):
            paired_differences(played(rate(3, 4)), other)
    with pytest.raises(ArtifactError, match="round 2 was not measured on s"):
        verdict(results(2, played(rate(90))), results(1, played(rate(20)), s=rate(10)))
    with pytest.raises(ArtifactError, match="0 and 0 episodes"):
        compare([], [], margin=0.0, seed=0)


@given(pairs, st.integers(0, 2**32 - 1), st.floats(0, 0.5))
@settings(max_examples=60, deadline=None)
def test_for_any_outcomes(outcomes: list[tuple[bool, bool]], seed: int, margin: float) -> None:
    before, after = map(list, zip(*outcomes, strict=True))
    found = compare(before, after, margin=margin, seed=seed)
    assert found == compare(before, after, margin=margin, seed=seed)
    assert found.difference == pytest.approx(found.second - found.first)
    assert found.low <= found.difference + 1e-9
    assert found.difference <= found.high + 1e-9
    assert 0.0 <= found.probability <= 1.0
    if found.won == 0:
        assert found.probability == 0.0
    assert compare(before, after, margin=margin + 0.2, seed=seed).probability <= found.probability
    mirrored = compare(after, before, margin=margin, seed=seed)
    assert mirrored.difference == pytest.approx(-found.difference)


@given(pairs)
@settings(max_examples=10, deadline=None)
def test_counts_give_the_same_interval_as_drawing_episodes(outcomes: list[tuple[bool, bool]]) -> None:
    before, after = map(list, zip(*outcomes, strict=True))
    fast, slow = compare(before, after, margin=0.0, seed=3), paired_bootstrap(before, after, seed=3)
    assert fast.low == pytest.approx(slow.low, abs=0.05 + 2 / len(before))
    assert fast.high == pytest.approx(slow.high, abs=0.05 + 2 / len(before))
