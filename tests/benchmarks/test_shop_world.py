"""The shop as an environment: conversations like those that its gateway records.

The last observation is empty, as it is there, so it does not pass `check_environment`.
"""

import random
from typing import Any

import pytest

from oel_core.envs.base import EnvSpec
from tests.benchmarks.shop_world import ShopWorld, corpus, desks, shop, untrue, wordings


def world(seed: int, **options: Any) -> ShopWorld:
    return ShopWorld(EnvSpec("shop", options, 2), seed)


def call(desk: str, matter: str = "refund") -> str:
    written: str = corpus.CALL.format(matter=matter, desk=desk)
    return written


def test_exchanged_desks_have_each_others_matters() -> None:
    assert desks(0) == shop.DESK_OF
    before, after = desks(0), desks(6)
    changed = {matter for matter in before if before[matter] != after[matter]}
    assert changed == set(list(before)[:6])
    assert {before[matter] for matter in changed} == {after[matter] for matter in changed}
    assert len(untrue(6, 0)) == len(untrue(0, 6)) == 6
    assert not set(untrue(6, 0)) & set(untrue(0, 6))


@pytest.mark.parametrize("seed", range(8))
def test_a_visit_passes_by_its_first_call_and_ends_with_the_answer_to_the_customer(seed: int) -> None:
    request = wordings.draw_request(random.Random(f"shop {seed}"))
    right = desks(6)[request.matter]
    for desk, reward in ((right, 1.0), (shop.DESKS[0], 0.0)):
        visit = world(seed, moved=6)
        assert visit.start() == request.text
        handed = visit.step(visit.parse(call(desk, request.matter)))
        assert (handed.observation, handed.reward, handed.terminated) == (
            shop.hand_over(request.matter, desk),
            reward,
            False,
        )
        told = visit.step(visit.parse(f"It is with our {desk} desk now."))
        assert (told.reward, told.terminated) == (0.0, True)
        said = visit.feedback(truncated=False)
        assert said.startswith(f"human on answer 1: thumbs {'up' if reward else 'down'}")
        assert ("; correct answer: " in said) <= (call(right, request.matter) in said)


@pytest.mark.parametrize(
    "answer", ["My pleasure.", '{"name": "pay", "arguments": {}}', call("snipe").replace("desk", "x")]
)
def test_a_visit_without_a_call_of_the_tool_ends_at_once(answer: str) -> None:
    visit = world(1)
    step = visit.step(visit.parse(answer))
    assert visit.step("no JSON").terminated
    assert (step.reward, step.terminated) == (0.0, True)
    assert "thumbs down" in visit.feedback(truncated=False)
