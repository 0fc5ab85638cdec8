"""Playing: records, prompts, and failures that end only their own episode."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core import envs
from oel_core.config.knowledge import InjectionConfig
from oel_core.config.run import ModelConfig, PlayConfig
from oel_core.config.sampling import Sampling
from oel_core.envs.base import Environment, EnvSpec, Step
from oel_core.errors import ConfigError, PolicyError, PromptTooLongError
from oel_core.policies.base import Completion, Request
from oel_core.policies.hf.policy import TransformersPolicy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.prompts import play as prompts
from oel_core.rollouts.episode import episode_return
from oel_core.rollouts.playing import EpisodePlan, groups, plan_episodes, play_episodes, prompt_digest
from oel_core.runs.manifest import digest_bytes
from oel_core.seeds import derive_seed
from oel_core.types import Message, Split, Trajectory
from tests.fakes import CORRIDOR, CorridorEnv, byte_tokenizer, tiny_model

SPEC = EnvSpec("corridor", max_turns=4)
PLAY = PlayConfig(sampling=Sampling(max_tokens=40))


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, *CORRIDOR)


def wander(messages: tuple[Message, ...], seed: int) -> str:
    return ("go [left]", "go [right]", "stay")[seed % 3]


class Watched(ScriptedPolicy):
    """Keeps every batch it was given; refuses prompts longer than `longest` characters."""

    def __init__(self, respond: Any = wander, *, longest: int = 10**6, batch_size: int = 8) -> None:
        super().__init__(respond, batch_size=batch_size)
        self.batches: list[Sequence[Request]] = []
        self.longest = longest

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        problems = {
            position: "too long"
            for position, request in enumerate(requests)
            if sum(len(message.content) for message in request.messages) > self.longest
        }
        if problems:
            raise PromptTooLongError(problems)
        self.batches.append(requests)
        return super().generate(requests, sampling)


def plan(seed: int, index: int = 0) -> EpisodePlan:
    return EpisodePlan(f"r01-extract-k00-e{index:04d}", seed, Split.EXTRACT, 1, 0, index)


def plans(count: int) -> list[EpisodePlan]:
    return plan_episodes(SPEC, 0, Split.EXTRACT, 1, 0, count, False)


def play(policy: Any, chosen: Sequence[EpisodePlan], spec: EnvSpec = SPEC, **more: Any) -> list[Trajectory]:
    return list(play_episodes(policy, spec, chosen, more.pop("play", PLAY), seed=more.pop("seed", 1), **more))


def content(trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """Everything but wall time."""
    return [one.model_dump(exclude={"turns": {"__all__": {"wall_s"}}}) for one in trajectories]


def test_the_record_of_an_episode_by_hand() -> None:
    # seed 4: four cells, the goal at the right end, the start beside the left end
    policy = Watched(lambda messages, seed: "I go [right]" if "@" in messages[-1].content else "")
    (episode,) = play(policy, [plan(4)])
    assert (episode.terminated, episode.truncated, episode.passed, episode.error) == (True, False, True, None)
    assert episode.feedback == "You reached the goal."
    assert episode.intro == CorridorEnv.intro
    assert episode.policy == "scripted"
    assert episode.knowledge_digest is None
    first, second = episode.turns
    assert first.messages == prompts.first_messages(f"{CorridorEnv.instructions}\n{CorridorEnv.intro}", "_@__")
    assert second.messages == prompts.next_messages(first.messages, "I go [right]", "__@_", history_turns=None)
    assert (first.action, first.observation, first.reward) == ("right", "__@_", 0.0)
    assert (second.action, second.observation, second.reward) == ("right", "___@", 1.0)
    seen = "".join(f"{message.role}\n{message.content}\n" for message in first.messages).encode()
    assert first.prompt_tokens == len(seen)
    assert first.prompt_ids_digest == prompt_digest(list(seen))
    assert bytes(first.response_ids[:-1]) == b"I go [right]"
    assert first.wall_s >= 0


def test_an_environment_without_texts_of_its_own_has_no_system_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CorridorEnv, "instructions", "")
    monkeypatch.setattr(CorridorEnv, "intro", "")
    (episode,) = play(Watched(lambda messages, seed: "[right]"), [plan(4)])
    assert [message.role for message in episode.turns[0].messages] == ["user"]


def test_a_preset_replaces_the_instructions() -> None:
    spec = replace(SPEC, instructions="Find the way out.")
    (episode,) = play(Watched(lambda messages, seed: "[right]"), [plan(4)], spec)
    assert episode.turns[0].messages[0].content == f"Find the way out.\n{CorridorEnv.intro}"


class Paces(CorridorEnv):
    """Every step is worth the same share of the whole way of seven."""

    def step(self, action: str | None) -> Step:
        return Step("on", 1 / 7, False)


def test_an_episodes_reward_is_the_sum_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, "paces", f"{__name__}:Paces")
    lengths = {turns: play(Watched(), [plan(4)], EnvSpec("paces", max_turns=turns))[0] for turns in (3, 7)}
    assert [turn.reward for turn in lengths[3].turns] == [1 / 7] * 3
    assert lengths[3].reward == pytest.approx(3 / 7)
    assert (lengths[3].passed, lengths[7].passed, lengths[7].reward) == (False, True, 1.0)


def test_shares_of_a_whole_add_to_a_pass() -> None:
    assert {parts for parts in range(1, 200) if episode_return([1 / parts] * parts) != 1.0} == set()


def test_the_turn_limit_truncates_and_invalid_moves_are_recorded() -> None:
    (episode,) = play(Watched(lambda messages, seed: "hm"), [plan(4)])
    assert (episode.terminated, episode.truncated, episode.passed) == (False, True, False)
    assert [turn.action for turn in episode.turns] == [None] * 4
    assert episode.feedback == "Round limit reached."


def test_an_end_on_the_last_turn_is_no_truncation() -> None:
    (episode,) = play(Watched(lambda messages, seed: "[right]"), [plan(4)], EnvSpec("corridor", max_turns=2))
    assert (episode.terminated, episode.truncated) == (True, False)


@pytest.mark.parametrize(("history_turns", "lengths"), [(None, [2, 4, 6, 8]), (0, [2, 2, 2, 2]), (1, [2, 4, 4, 4])])
def test_history_is_kept_as_configured(history_turns: int | None, lengths: list[int]) -> None:
    config = PLAY.model_copy(update={"history_turns": history_turns})
    (episode,) = play(Watched(lambda messages, seed: "hm"), [plan(4)], play=config)
    assert [len(turn.messages) for turn in episode.turns] == lengths


def test_every_turn_draws_from_a_seed_of_its_own() -> None:
    policy = Watched(lambda messages, seed: "hm")
    chosen = plans(3)
    play(policy, chosen, seed=9)
    assert [[request.seed for request in batch] for batch in policy.batches] == [
        [derive_seed(9, one.id, turn) for one in chosen] for turn in range(4)
    ]


def plain_prompts() -> list[str]:
    """What the student reads without any knowledge about."""
    episodes = play(Watched(), plans(4))
    return [message.content for episode in episodes for turn in episode.turns for message in turn.messages]


@given(st.text(min_size=3).filter(lambda text: all(text not in prompt for prompt in plain_prompts())))
def test_knowledge_is_shown_and_never_recorded(knowledge: str) -> None:
    policy = Watched()
    told = play(policy, plans(4), knowledge=lambda plan, environment: knowledge)
    for batch in policy.batches:
        for request in batch:
            assert request.messages[0].content.endswith(f"{prompts.KNOWLEDGE_HEADER}\n{knowledge}")
    for episode in told:
        assert episode.knowledge_digest == digest_bytes(knowledge.encode())
        for turn in episode.turns:
            assert all(knowledge not in message.content for message in turn.messages)
            assert prompts.KNOWLEDGE_HEADER not in turn.messages[0].content


def test_knowledge_may_differ_by_episode_and_see_its_environment() -> None:
    policy = Watched()

    def knowledge(one: EpisodePlan, environment: Environment) -> str:
        return "" if one.index == 0 else f"{one.id} {environment.layout}"

    told = sorted(play(policy, plans(2), knowledge=knowledge), key=lambda one: one.index)
    assert told[0].knowledge_digest is None
    assert told[1].knowledge_digest is not None
    assert prompts.KNOWLEDGE_HEADER not in policy.batches[0][0].messages[0].content
    assert "corridor-" in policy.batches[0][1].messages[0].content


@pytest.mark.parametrize(("where", "said"), [("start", "closed"), ("step", "collapsed")])
def test_an_environment_that_fails_fails_alone(where: str, said: str) -> None:
    spec = EnvSpec("corridor", {"fail": where}, max_turns=4)
    episodes = {one.index: one for one in play(Watched(), [plan(seed, seed) for seed in range(6)], spec)}
    assert len(episodes) == 6
    for index, episode in episodes.items():
        if index % 2:
            assert episode.error is not None
            assert episode.error.startswith("EnvironmentError_: ")
            assert said in episode.error
            assert (episode.terminated, episode.truncated, episode.passed) == (False, False, False)
        else:
            assert episode.error is None


class OddEnv(CorridorEnv):
    """Says what a record cannot hold: half surrogate pairs, and with odd seeds rewards that are not finite."""

    intro = f"{CorridorEnv.intro}\ud800"

    def step(self, action: str | None) -> Step:
        step = super().step(action)
        return replace(step, observation=f"\udc00{step.observation}", reward=self._reward)

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        super().__init__(spec, seed)
        self._reward = float("nan") if seed % 2 else 0.25

    def start(self) -> str:
        return f"{super().start()}\ud800"

    def feedback(self, *, truncated: bool) -> str:
        return "\ud800"


def test_what_an_environment_says_can_be_written_or_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, "odd", "tests.rollouts.test_playing:OddEnv")
    plans = [plan(2), plan(3, 1)]
    played = {one.seed: one for one in play_episodes(Watched(), EnvSpec("odd", max_turns=2), plans, PLAY, seed=0)}
    good, bad = played[2], played[3]
    assert (good.error, good.feedback, good.reward) == (None, "\ufffd", 0.5)
    assert good.intro.endswith("\ufffd")
    assert good.turns[0].messages[1].content.endswith("\ufffd")
    assert good.turns[0].observation.startswith("\ufffd")
    assert bad.error == "EnvironmentError_: the environment gave the reward nan, which is not a finite number"
    assert Trajectory.model_validate_json(good.model_dump_json()) == good
    assert Trajectory.model_validate_json(bad.model_dump_json()) == bad


def test_a_prompt_that_does_not_fit_fails_alone_and_the_turn_goes_on() -> None:
    spec = EnvSpec("corridor", {"pad": 3000}, max_turns=4)
    policy = Watched(longest=2000)
    episodes = {one.index: one for one in play(policy, [plan(seed, seed) for seed in range(6)], spec)}
    assert [episodes[index].error for index in range(6)] == [None, "PromptTooLongError: too long"] * 3
    assert [request.seed for request in policy.batches[0]] == [
        derive_seed(1, plan(seed, seed).id, 0) for seed in (0, 2, 4)
    ]
    alone = play(Watched(longest=2000), [plan(1)], spec)
    assert [one.error for one in alone] == ["PromptTooLongError: too long"]


def test_a_prompt_that_grows_too_long_keeps_the_turns_before() -> None:
    (episode,) = play(Watched(lambda messages, seed: "hm " * 10, longest=280), [plan(4)])
    assert episode.error is not None
    assert 0 < len(episode.turns) < 4


def test_errors_of_the_run_are_not_data() -> None:
    with pytest.raises(ConfigError, match="unknown environment"):
        play(Watched(), [plan(0)], EnvSpec("coridor"))

    class Broken(ScriptedPolicy):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
            raise PolicyError("the server is gone")

    with pytest.raises(PolicyError, match="server is gone"):
        play(Broken(wander), [plan(0)])


def test_environments_are_closed_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[CorridorEnv] = []

    def make(spec: EnvSpec, seed: int) -> CorridorEnv:
        made.append(CorridorEnv(spec, seed))
        return made[-1]

    monkeypatch.setattr(envs, "make_env", make)
    play(Watched(), plans(3))
    running = play_episodes(Watched(batch_size=4), SPEC, plans(4), PLAY, seed=1)
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert len(made) == 7
    assert all(environment.closed for environment in made)


def test_a_finished_episode_is_given_before_the_next_turn_is_played() -> None:
    policy = Watched(lambda messages, seed: "[left]" if messages[-1].content.startswith("_@") else "hm")
    episodes = play_episodes(policy, SPEC, [plan(0), plan(1)], PLAY, seed=1)
    next(episodes)
    assert len(policy.batches) == 1


def test_groups_are_fixed_and_in_plan_order() -> None:
    policy = Watched(batch_size=3)
    chosen = plans(7)
    play(policy, chosen, EnvSpec("corridor", max_turns=1))
    assert [len(batch) for batch in policy.batches] == [3, 3, 1]
    assert [list(group) for group in groups(chosen, 3)] == [chosen[:3], chosen[3:6], chosen[6:]]


def test_playing_missing_groups_again_gives_the_same_episodes() -> None:
    policy = TransformersPolicy(tiny_model(), byte_tokenizer(), ModelConfig(batch_size=3, device="cpu"), "tiny")
    chosen = plans(8)
    spec = EnvSpec("corridor", max_turns=2)
    whole = {one["id"]: one for one in content(play(policy, chosen, spec))}
    assert list(whole) == [one["id"] for one in content(play(policy, chosen, spec))]
    for group in groups(chosen, 3)[1:]:
        for one in content(play(policy, group, spec)):
            assert one == whole[one["id"]]


def test_a_failed_episode_in_a_group_is_the_same_when_played_again(tmp_path: Path) -> None:
    config = ModelConfig(batch_size=4, device="cpu", max_length=400)
    policy = TransformersPolicy(tiny_model(), byte_tokenizer(), config, "tiny")
    spec = EnvSpec("corridor", {"pad": 200}, max_turns=2)
    chosen = [plan(seed, seed) for seed in range(4)]
    first = content(play(policy, chosen, spec))
    assert [bool(one["error"]) for one in sorted(first, key=lambda one: one["index"])] == [False, True] * 2
    assert content(play(policy, chosen, spec)) == first


def test_step_wise_knowledge_is_chosen_anew_at_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CorridorEnv, "_see", lambda self: f"You are in cell {self._at}.")
    policy = Watched(lambda messages, seed: "I go [right]")
    knowledge = "cell 2 is far\ncell 1 is near"
    step_wise = InjectionConfig(mode="step_wise", items=1)
    (episode,) = play(policy, [plan(4)], knowledge=lambda plan, environment: knowledge, injection=step_wise)
    shown = [batch[0].messages[0].content.rpartition(f"{prompts.KNOWLEDGE_HEADER}\n")[2] for batch in policy.batches]
    assert shown == ["cell 1 is near", "cell 2 is far"]
    assert episode.knowledge_digest == digest_bytes(knowledge.encode())
    assert all(prompts.KNOWLEDGE_HEADER not in turn.messages[0].content for turn in episode.turns)
