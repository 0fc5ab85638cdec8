"""The contract of an environment (`oel_core.envs.base.Environment`)."""

import random
import re
from collections.abc import Callable, Sequence

from oel_core.envs.base import Environment, FunctionCalling, Step
from oel_core.rollouts.episode import episode_return

Factory = Callable[[int], Environment]
"""Seed → a new environment."""

HOSTILE = (
    "",
    "   \n\t ",
    "x" * 200_000,
    "[" * 50_000,
    "\x00\x01\x1b[2J[\x07]",
    "\ud800 [\udfff]",
    "\u202e[pu] \U0001f9ca [\uff55\uff50] [\u0130]",
    "[go north\ninventory]",
    "<|im_end|><|im_start|>system",
)
"""Responses without an action, which must not raise."""


def check_environment(
    factory: Factory, responses: Sequence[str], *, seeds: tuple[int, int] = (3, 2**53 - 1), turns: int = 8
) -> None:
    """Plays an environment and checks its contract.

    Args:
        factory: creates a single-use environment for a seed.
        responses: possible responses of a policy, each with an action that some state allows.
        seeds: two seeds whose episodes differ; rounds from the 64th on have seeds of more than 32 bits.
        turns: maximum turns of each random walk.

    Raises:
        AssertionError: the environment violates its contract; the message says how.
    """
    for check in (
        _answers_equal_seeds_alike,
        _seeds_differ,
        _intro_is_one_line,
        _instructions_and_task_are_texts,
        _actions_are_calls_where_functions_are_declared,
        _layout_is_stable,
        _hostile_responses_are_no_actions,
        _invalid_actions_do_not_end,
        _truncation_is_reported,
        _return_is_a_share,
        _episodes_are_independent,
        _global_randomness_is_left_alone,
        _closes_twice,
    ):
        check(factory, responses, seeds, turns)


def _walk(environment: Environment, responses: Sequence[str], seed: int, turns: int) -> list[Step]:
    """A reproducible random walk; the first observation counts as a step."""
    draw, steps = random.Random(seed), [Step(environment.start(), 0.0, False)]
    while not steps[-1].terminated and len(steps) <= turns:
        action = environment.parse(draw.choice(responses))
        assert action is not None, f"parse() understood none of {list(responses)[:3]} ...: one it was promised to"
        steps.append(environment.step(action))
    return steps


def _answers_equal_seeds_alike(factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int) -> None:
    for seed in seeds:
        first, second = factory(seed), factory(seed)
        assert (first.intro, first.layout) == (second.intro, second.layout), f"seed {seed} gave two episodes"
        assert _walk(first, responses, 1, turns) == _walk(second, responses, 1, turns), (
            f"seed {seed}: the same actions were answered differently"
        )


def _seeds_differ(factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int) -> None:
    first, second = (factory(seed) for seed in seeds)
    assert first.layout != second.layout, f"seeds {seeds} have the same layout {first.layout}"


def _intro_is_one_line(factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int) -> None:
    intro = factory(seeds[0]).intro
    assert intro.strip() == intro, "intro begins or ends with white space"
    assert "\n" not in intro, "intro is more than one line"


def _instructions_and_task_are_texts(
    factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int
) -> None:
    environment, other = (factory(seed) for seed in seeds)
    texts = {"instructions": getattr(environment, "instructions", None)}
    texts["extraction_task"] = getattr(type(environment), "extraction_task", None)
    for name, text in texts.items():
        assert isinstance(text, str), f"{name} is {text!r}, not a text of the class"
        assert text.strip() == text, f"{name} begins or ends with white space"
    assert texts["extraction_task"], "extraction_task is empty: the extractor has no task"
    assert environment.instructions == other.instructions, f"seeds {seeds} have different instructions"


def _actions_are_calls_where_functions_are_declared(
    factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int
) -> None:
    environment, other = (factory(seed) for seed in seeds)
    if not isinstance(environment, FunctionCalling) or not environment.functions:
        return
    assert isinstance(other, FunctionCalling)
    assert environment.functions == other.functions, f"seeds {seeds} declare different functions"
    for response in responses:
        action = environment.parse(response)
        assert action is not None, f"parse() understood nothing in {response[:40]!r}: an action it was promised"
        assert environment.as_call(action).name, f"as_call() gave a call without a name for {action[:40]!r}"


def _layout_is_stable(factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int) -> None:
    environment = factory(seeds[0])
    before = environment.layout
    _walk(environment, responses, 3, turns)
    assert environment.layout == before, "layout changed in play: it is the key of the *initial* layout"
    assert re.fullmatch(r"\S{1,64}", before), f"layout {before!r} is not one word of at most 64 characters"


def _hostile_responses_are_no_actions(
    factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int
) -> None:
    for text in HOSTILE:
        environment = factory(seeds[0])
        environment.start()
        assert environment.parse(text) is None, f"parse() took {text[:40]!r} for an action"
        assert environment.step(text).observation, f"step({text[:40]!r}) was not answered"


def _invalid_actions_do_not_end(factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int) -> None:
    environment = factory(seeds[0])
    environment.start()
    step = environment.step(None)
    assert step.observation, "step(None) was not answered"
    assert not step.terminated, "one invalid action ended the episode"


def _truncation_is_reported(factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int) -> None:
    environment = factory(seeds[0])
    environment.start()
    truncated = environment.feedback(truncated=True)
    assert truncated, "feedback(truncated=True) is empty"


def _return_is_a_share(factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int) -> None:
    environment = factory(seeds[0])
    steps = _walk(environment, responses, 2, turns)
    total = episode_return(step.reward for step in steps)
    assert 0.0 <= total <= 1.0, f"rewards add to {total}, which is not between 0 and 1"
    if steps[-1].terminated:
        late = environment.step(None)
        assert late.terminated, "a step after the end is not terminated"
        assert late.reward == 0.0, f"a step after the end has the reward {late.reward}"


def _episodes_are_independent(factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int) -> None:
    alone = _walk(factory(seeds[0]), responses, 4, turns)
    first, second = factory(seeds[0]), factory(seeds[1])
    _walk(second, responses, 5, 2)
    assert _walk(first, responses, 4, turns) == alone, "an episode changed because another one was played"


def _global_randomness_is_left_alone(
    factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int
) -> None:
    factory(seeds[0])  # what imports at its first making does so here
    before = random.getstate()
    walked = _walk(factory(seeds[1]), responses, 6, turns)
    assert random.getstate() == before, "the environment moves Python's global random generator"
    random.seed(1)
    again = _walk(factory(seeds[1]), responses, 6, turns)
    random.setstate(before)
    assert again == walked, "the environment depends on Python's global random generator"


def _closes_twice(factory: Factory, responses: Sequence[str], seeds: tuple[int, int], turns: int) -> None:
    environment = factory(seeds[0])
    environment.start()
    environment.close()
    environment.close()
