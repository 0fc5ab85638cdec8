"""The games suite's arms, its figures, and the raw text of the ablation."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core import envs
from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError
from oel_core.evaluation import make_suite
from oel_core.evaluation.base import summarise
from oel_core.evaluation.games import raw_knowledge
from oel_core.evaluation.validation import validation_plans
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rollouts.playing import plan_episodes, unfinished
from oel_core.types import Message, Split, StopReason, Trajectory
from tests.builders import episode, turn
from tests.evaluation.players import follower, small_config, wanderer

TRUTH = "'G' is the goal. 'H' ends the game."


def words(text: str) -> int:
    return len(text.split())


def play(policy: ScriptedPolicy, config: OelConfig, **options: Any) -> tuple[Any, list[Trajectory]]:
    played: list[Trajectory] = []
    report = make_suite("games", options, config).run(policy, on_episode=played.append)
    return report, played


def test_knowledge_in_context_reaches_the_policy_and_changes_the_outcome() -> None:
    config = small_config()
    plain, _ = play(follower(), config)
    taught, _ = play(follower(), config, arm="in_context", texts=[TRUTH])
    assert (plain.pass_rate, plain.invalid_rate) == (0.0, 1.0)
    assert (taught.pass_rate, taught.invalid_rate) == (1.0, 0.0)


def test_settings_can_be_compared_on_the_episodes_that_knowledge_is_chosen_on() -> None:
    chosen = small_config(games={"episodes": 4, "split": "validation"})
    _, held_out = play(follower(), small_config())
    _, played = play(follower(), chosen)
    assert [one.seed for one in played] == [plan.seed for plan in validation_plans(chosen, 0, 4)]
    assert {one.split for one in played} == {Split.VALIDATION}
    assert not {one.seed for one in played} & {one.seed for one in held_out}


def test_episode_i_reads_text_i_modulo_their_number() -> None:
    def respond(messages: tuple[Message, ...], seed: int) -> str:
        return f"I was told {messages[0].content.rpartition(chr(10))[2]}"

    texts = ["zero", "one", "two"]
    _, played = play(ScriptedPolicy(respond), small_config(), arm="in_context", texts=texts)
    assert {entry.index: entry.turns[0].response for entry in played} == {
        index: f"I was told {texts[index % 3]}" for index in range(10)
    }
    assert len({entry.knowledge_digest for entry in played}) == 3


def test_all_arms_and_rounds_play_the_same_boards() -> None:
    config = small_config()
    arms = [{}, {"arm": "in_context", "texts": ["x"]}, {"arm": "raw", "texts": ["y"]}]
    seeds = [
        [(entry.id, entry.seed) for entry in sorted(play(wanderer(), config, **arm)[1], key=lambda e: e.id)]
        for arm in arms
    ]
    assert seeds[0] == seeds[1] == seeds[2]
    assert [play(wanderer(), config, **arm)[0].suite for arm in arms] == ["games", "games_in_context", "games_raw"]


def test_the_suites_sampling_is_the_evaluations() -> None:
    config = small_config(games={"episodes": 2, "sampling": {"max_tokens": 2}})
    report, _ = play(wanderer(), config)
    assert (report.truncation_rate, report.response_tokens) == (1.0, 2.0)


@pytest.mark.parametrize("options", [{"arm": "in_context"}, {"arm": "raw", "texts": []}, {"texts": ["x"]}])
def test_an_arm_without_its_texts_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="suite games: arm"):
        make_suite("games", options, small_config())


def test_episodes_that_fail_are_counted_and_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    world = {"environment": {"name": "corridor", "options": {"fail": "step"}}, "evaluate": {"games": {"episodes": 12}}}
    report, played = play(ScriptedPolicy(lambda messages, seed: "[left]"), OelConfig.model_validate(world))
    broken = [entry for entry in played if entry.error is not None]
    assert report.errors == len(broken) == sum(entry.seed % 2 for entry in played) > 0
    assert report.passed == sum(entry.passed for entry in played if entry.error is None)


def test_the_figures_by_hand() -> None:
    played = [
        episode("a", reward=1.0, turns=[turn(0, tokens=2), turn(1, tokens=4)]),
        episode("b", reward=0.5, turns=[turn(0, tokens=9, stop_reason=StopReason.LENGTH, action=None)]),
        episode("c", reward=1.0, turns=[], error="fell apart"),
        episode("d", reward=1.0, turns=[turn(0, tokens=1)]),
    ]
    report = summarise("games", "me", played, layouts=3)
    assert (report.episodes, report.passed, report.pass_rate, report.errors, report.layouts) == (4, 2, 0.5, 1, 3)
    assert (report.response_tokens, report.turns, report.trajectory_tokens) == (4.0, 1.0, 4.0)
    assert (report.truncation_rate, report.invalid_rate) == (0.25, 0.25)
    assert report.ci95 == pytest.approx((0.1500, 0.8500), abs=1e-4)


def test_no_turns_at_all_is_still_a_report() -> None:
    report = summarise("games", "me", [episode("a", turns=[], error="no")])
    assert (report.pass_rate, report.response_tokens, report.turns, report.invalid_rate) == (0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ConfigError, match="suite games has no episodes"):
        summarise("games", "me", [])


def test_unfinished_groups_are_played_whole_only_where_that_repeats_them() -> None:
    config = small_config()
    spec = envs.EnvSpec("lake", config.environment.options)
    plans = plan_episodes(spec, 0, Split.HELD_OUT, 0, 0, 10, False)
    done = {plan.id for plan in plans[:6]}
    policy = wanderer(batch_size=4)
    assert unfinished(plans, done, policy) == plans[4:]
    policy.reproducible = False
    assert unfinished(plans, done, policy) == plans[6:]


EPISODES = [episode(f"e{index}", answers=(f"answer {index}",), feedback=f"end {index}.") for index in range(6)]


@given(st.integers(0, 120))
def test_raw_knowledge_is_the_newest_whole_episodes_under_the_cap(cap: int) -> None:
    text = raw_knowledge(EPISODES, cap, words)
    kept = [part for part in text.split("\n\n") if part]
    assert words(text) <= cap
    endings = [f"Feedback: end {index}." for index in range(6)]
    assert [part.rpartition("\n")[2] for part in kept] == endings[6 - len(kept) :]
    if len(kept) < 6:
        assert words(raw_knowledge(EPISODES[5 - len(kept) :], 1000, words)) > cap


def test_raw_knowledge_reads_like_an_extractors_transcript() -> None:
    played = [episode("a", error="broken"), episode("b", answers=("go [up]",), feedback="You fell.")]
    assert raw_knowledge(played, 100, words) == (
        "# Episode\n## Turn 1\nboard 0\nAnswer: go [up]\n## End\nboard 1\nFeedback: You fell."
    )
