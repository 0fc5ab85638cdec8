"""The seed model's corpus: skills, but not the meaning of the deployment's symbols."""

import itertools
import random
import re

import pytest

from oel_core.envs import lake
from oel_core.envs.base import EnvSpec
from oel_core.envs.lake import Cell, LakeEnv
from oel_core.prompts.extraction import itemised
from oel_core.seed_lm import corpus, expert, frozen_lake_words
from oel_core.seed_lm.courses import LAKE
from oel_core.seed_lm.expert import Facts, View
from oel_core.seed_lm.tokenizer import build_tokenizer

SAMPLE = 3000


@pytest.fixture(scope="module")
def sample() -> list[tuple[str, corpus.Example]]:
    return list(itertools.islice(corpus.examples(123, LAKE.stages[-1].weights), SAMPLE))


def test_deployment_symbols_never_meet_in_their_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked on the environments the corpus really draws, for every pair of roles at once."""
    drawn: list[dict[lake.Role, str]] = []
    original = corpus.draw_env

    def spy(rng: random.Random) -> LakeEnv:
        env = original(rng)
        drawn.append(env.symbols)
        return env

    monkeypatch.setattr(corpus, "draw_env", spy)
    list(itertools.islice(corpus.examples(7, LAKE.stages[-1].weights), SAMPLE))
    assert len(drawn) == SAMPLE
    assert not [letters for letters in drawn if lake.deployment_facts(letters) > 1]
    assert any(letters["hole"] == "H" for letters in drawn), "the letters themselves do occur"
    assert any(letters["goal"] == "G" for letters in drawn)


def test_knowledge_in_prompts_never_teaches_the_deployment_pair(sample: list[tuple[str, corpus.Example]]) -> None:
    for _, example in sample:
        facts = expert.read_facts(example.messages[0].content)
        known = [("H" in facts.bad), ("X" in facts.bad), facts.key == "K", facts.aim == "G"]
        assert sum(known) < 2


def test_every_skill_occurs_and_answers_in_its_form(sample: list[tuple[str, corpus.Example]]) -> None:
    assert {skill for skill, _ in sample} == set(corpus.SKILLS)
    for skill, example in sample:
        if skill == "extract":
            assert itemised.parse(example.response) == example.response.splitlines()
        else:
            assert re.search(r"\[(up|down|left|right)\]$", example.response)


def test_without_knowledge_half_are_guesses(sample: list[tuple[str, corpus.Example]]) -> None:
    blind = [example.response for skill, example in sample if skill == "act_without_knowledge"]
    share = sum(response.startswith("Bad:?; key:?; goal:?") for response in blind) / len(blind)
    assert 0.4 < share < 0.6


def test_tokenizer_round_trips_and_keeps_symbols_alone(sample: list[tuple[str, corpus.Example]]) -> None:
    tokenizer = build_tokenizer()
    for _, example in sample[:200]:
        text = tokenizer.apply_chat_template(
            [message.model_dump() for message in example.messages], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text + example.response)["input_ids"]
        assert tokenizer.decode(ids) == text + example.response
        for token in tokenizer.convert_ids_to_tokens(ids):
            assert not re.fullmatch(r"[A-Z]{2,}", token)


def test_any_text_tokenises() -> None:
    tokenizer = build_tokenizer()
    text = "Ünïcode 漢字 \x00 tabs\tand 'quotes' PPP"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


KNOWN = Facts(bad=("H", "X"), key="K", gate="G", goal="G")


def view_of(env: LakeEnv) -> View:
    view = expert.read_board(env.start())
    assert view is not None
    return view


def test_read_board_sees_what_the_environment_holds() -> None:
    env = LakeEnv(EnvSpec("lake"), 3)
    view = view_of(env)
    assert view.player == env.board.player
    assert view.symbols == {cell: env.symbols[role] for cell, role in env.board.things.items()}


def test_facts_survive_the_way_through_knowledge_text() -> None:
    env = LakeEnv(EnvSpec("lake"), 0)
    assert expert.read_facts(env.truths()) == KNOWN


@pytest.mark.parametrize("seed", range(60))
def test_the_expert_with_the_truth_always_wins(seed: int) -> None:
    """Distillation cannot exceed its teacher, and the teacher imitates this player."""
    env = LakeEnv(EnvSpec("lake"), seed)
    episode = corpus.play_episode(env, KNOWN, random.Random(seed), max_turns=16)
    assert episode.passed, episode.feedback


def test_the_expert_takes_the_key_before_the_goal() -> None:
    view = View(4, Cell(0, 0), {Cell(0, 1): "G", Cell(3, 3): "K"})
    assert expert.choose_target(KNOWN, view, random.Random(0)) == Cell(3, 3)
    taken = View(4, Cell(0, 0), {Cell(0, 1): "G"})
    assert expert.choose_target(KNOWN, taken, random.Random(0)) == Cell(0, 1)


def test_a_closed_goal_sends_the_expert_to_look_for_the_key() -> None:
    view = View(4, Cell(0, 0), {Cell(0, 1): "G", Cell(3, 3): "K"})
    assert expert.choose_target(Facts(gate="G"), view, random.Random(0)) == Cell(3, 3)


def learnt(env: LakeEnv, responses: list[str]) -> list[str]:
    observation, pairs = env.start(), []
    for response in responses:
        step = env.step(env.parse(response))
        pairs.append((observation, response))
        observation = step.observation
    return expert.learn(pairs, observation, env.feedback(truncated=not step.terminated))


def test_extraction_names_what_was_stepped_on() -> None:
    env = LakeEnv(EnvSpec("lake"), 0)
    env.board = lake.Board(4, Cell(0, 0), {Cell(0, 1): "key", Cell(0, 2): "goal"})
    responses = ["Bad:?. up:wall, down:free, left:wall, right:K ?. [right]", "right:G ?. [right]"]
    assert learnt(env, responses) == [lake.item_key("K"), lake.item_goal("G")]


def test_misnamed_targets_and_beliefs_change_neither_labels_nor_moves_nor_what_is_learnt() -> None:
    response = "Bad:H,X; key:?; goal:G. At 0,1. up:wall, down:free, left:H bad, right:G goal. Next:G 0,2. [right]"
    rng = random.Random(3)
    told = {corpus.misname(response, rng) for _ in range(200)}
    assert len({text.split("Next:")[1][0] for text in told}) > 10
    assert len({text.split(" At ")[0] for text in told}) > 10
    for text in told:
        assert text.split(" At ")[1].split("Next:")[0] == response.split(" At ")[1].split("Next:")[0]
        assert expert.learn([("", text)], "", "Success: found") == [lake.item_goal("G")]


def test_nothing_learnt_is_said_in_the_items_form() -> None:
    env = LakeEnv(EnvSpec("lake"), 0)
    env.board = lake.Board(4, Cell(0, 0), {Cell(3, 3): "goal"})
    assert learnt(env, ["down:free [down]"]) == [expert.NOTHING_LEARNT]


def test_retelling_keeps_the_episode_and_changes_its_ending() -> None:
    rng = random.Random(0)
    for seed in range(200):
        env = LakeEnv(EnvSpec("lake", {"key": False, "traps": 0, "corners": True}), seed)
        told = corpus.play_episode(env, Facts(), rng, max_turns=6)
        retold = frozen_lake_words.retell(told, rng)
        assert [turn.response for turn in retold.turns] == [turn.response for turn in told.turns]
        if lake.FELL in told.feedback:
            assert retold.feedback.startswith(told.feedback)
            assert retold.feedback.endswith("of the journey to the goal.")
