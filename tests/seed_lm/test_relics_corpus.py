"""The relics' part of the corpus: skills, without the deployment's meanings."""

import itertools
import random
import re

import pytest

from oel_core.envs import lake
from oel_core.envs.base import EnvSpec
from oel_core.envs.textworld import relics
from oel_core.envs.textworld.relics_story import Story
from oel_core.errors import ConfigError
from oel_core.prompts.extraction import itemised
from oel_core.seed_lm import corpus, expert, relics_corpus, relics_expert, relics_words
from oel_core.seed_lm.courses import LAKE, TWO_WORLDS, get_course
from oel_core.seed_lm.expert import Facts
from oel_core.seed_lm.relics_expert import View
from oel_core.seed_lm.tokenizer import build_tokenizer

SAMPLE = 3000
KNOWN = Facts(bad=("M", "T"), key="S", gate="B", goal="B")
Sample = list[tuple[str, corpus.Example]]


@pytest.fixture(scope="module")
def sample() -> Sample:
    weights = TWO_WORLDS.stages[-1].weights
    return list(itertools.islice(corpus.examples(123, weights, TWO_WORLDS.skills), SAMPLE))


def meant(story: Story) -> list[bool]:
    curses, key, treasure = story.board.meanings
    return ["M" in curses, "T" in curses, key == "S", treasure == "B"]


def test_neither_deployments_letters_ever_meet_in_their_meanings() -> None:
    rng = random.Random(5)
    drawn = [relics_corpus.draw_story(rng) for _ in range(SAMPLE)]
    assert not [story for story in drawn if sum(meant(story)) > 1]
    assert any(story.board.meanings.key == "S" for story in drawn), "the letters themselves do occur"
    for story in drawn:
        curses, key, treasure = story.board.meanings
        assert sum(["H" in curses, "X" in curses, key == "K", treasure == "G"]) < 2
    lakes = [corpus.draw_env(rng).symbols for _ in range(SAMPLE)]
    for letters in lakes:
        deadly = letters["hole"] + letters["trap"]
        assert sum(["M" in deadly, "T" in deadly, letters["key"] == "S", letters["goal"] == "B"]) < 2


def test_knowledge_in_prompts_never_teaches_two_facts_of_a_deployment(sample: Sample) -> None:
    for _, example in sample:
        text = example.messages[0].content
        for facts in (expert.read_facts(text), relics_expert.read_facts(text)):
            assert sum(["M" in facts.bad, "T" in facts.bad, facts.key == "S", facts.aim == "B"]) < 2
            assert sum(["H" in facts.bad, "X" in facts.bad, facts.key == "K", facts.aim == "G"]) < 2


def test_every_skill_occurs_and_answers_in_its_form(sample: Sample) -> None:
    assert {skill for skill, _ in sample} == set(TWO_WORLDS.skills) == {*corpus.SKILLS, *relics_corpus.SKILLS}
    for skill, example in sample:
        if skill == "relics_extract":
            assert itemised.parse(example.response) == example.response.splitlines()
        elif skill.startswith("relics"):
            assert re.search(r"\. \[(go (north|south|east|west)|take relic [A-Z])\]$", example.response)


def test_what_the_expert_asks_for_is_possible(sample: Sample) -> None:
    for skill, example in sample:
        if skill in ("relics_with_knowledge", "relics_without_knowledge"):
            seen = relics_expert.read_view(example.messages[-1].content)
            assert seen is not None
            asked = example.response.rpartition("[")[2][:-1]
            possible = [f"go {way}" for way in relics.EXITS[seen.room]] + [f"take relic {a}" for a in seen.here]
            assert asked in possible


def test_without_knowledge_about_half_are_guesses(sample: Sample) -> None:
    blind = [example.response for skill, example in sample if skill == "relics_without_knowledge"]
    share = sum(response.startswith("Bad:?; key:?; goal:?") for response in blind) / len(blind)
    assert 0.4 < share < 0.65


def test_guesses_favour_no_letter(sample: Sample) -> None:
    """What is guessed must not say what the deployment's letters mean."""
    rng = random.Random(1)
    goals: dict[str, int] = {}
    for _ in range(6000):
        response = relics_corpus.act_without_knowledge(rng).response
        found = re.search(r"goal:([A-Z])", response)
        if found:
            goals[found[1]] = goals.get(found[1], 0) + 1
    assert set(goals) == set(lake.ALPHABET)
    assert max(goals.values()) < 2.5 * min(goals.values())


def test_the_tokenizer_says_the_lake_as_before_and_the_relics_in_few_tokens(sample: Sample) -> None:
    older, newer = build_tokenizer(), build_tokenizer(TWO_WORLDS.phrases)
    assert older.get_vocab().items() <= newer.get_vocab().items()
    assert len(newer) == len(older) + len(set(TWO_WORLDS.phrases) - set(older.get_vocab()))
    longest = 0
    for skill, example in sample[:400]:
        messages = [message.model_dump() for message in example.messages]
        text = newer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + example.response
        ids = newer(text)["input_ids"]
        assert newer.decode(ids) == text
        assert not [token for token in newer.convert_ids_to_tokens(ids) if re.fullmatch(r"[A-Z]{2,}", token)]
        if skill in corpus.SKILLS:
            assert ids == older(text)["input_ids"]
        elif skill != "relics_extract":
            longest = max(longest, len(ids))
    assert longest < 110


def test_new_tokens_have_older_twins() -> None:
    older, newer = build_tokenizer().get_vocab(), build_tokenizer(TWO_WORLDS.phrases).get_vocab()
    for new, twin in relics_words.ANALOGUES.items():
        assert new in newer
        assert new not in older
        assert twin in older


def test_a_view_is_read_from_what_is_told() -> None:
    story = Story(EnvSpec("textworld_relics", {"symbols": "random", "curses": 4}), 9)
    story.room = 2
    floor = tuple(letter for letter, place in story.board.places.items() if place == 2)
    assert relics_expert.read_view(story.start()) == View(2, floor, ())
    story.carried = ["Q"]
    told = story.observe("You pick up the relic Z from the ground.\n\nYour score has just gone up by one point.")
    assert relics_expert.read_view(told) == View(2, floor, ("Q",))
    assert relics_expert.read_view("You scored 0.") is None


def test_facts_survive_the_way_through_knowledge_text() -> None:
    assert relics_expert.read_facts(Story(EnvSpec("textworld_relics"), 0).truths()) == KNOWN


def play(story: Story, facts: Facts, seed: int, turns: int = 10):
    rng = random.Random(seed)
    return corpus.record("relics", story, lambda seen: relics_corpus.respond_well(seen, facts, rng), turns, str)


@pytest.mark.parametrize("seed", range(40))
def test_the_expert_with_the_truth_always_wins_in_time(seed: int) -> None:
    episode = play(Story(EnvSpec("textworld_relics"), seed), KNOWN, seed)
    assert episode.passed, episode.feedback


def test_the_expert_without_knowledge_seldom_wins() -> None:
    won = [play(Story(EnvSpec("textworld_relics"), seed), Facts(), seed).passed for seed in range(400)]
    assert 0 < sum(won) < 80


def target(facts: Facts, view: View) -> str | None:
    return relics_expert.choose_target(facts, view, random.Random(0))


def test_what_the_expert_wants_next() -> None:
    assert target(KNOWN, View(0, ("B", "S"), ())) == "S"
    assert target(KNOWN, View(0, ("B",), ())) == "S", "it is elsewhere: the treasure stays where it is"
    assert target(KNOWN, View(0, ("M",), ("S",))) == "B"
    assert target(Facts(gate="B"), View(0, ("B", "Q"), ())) == "Q", "a sealed treasure sends it to look for the key"
    assert target(Facts(gate="B"), View(0, ("B",), ())) is None
    assert target(Facts(gate="B"), View(0, ("B",), ("Q",))) == "B"
    assert target(Facts(goal="B"), View(0, ("B", "Q"), ())) == "B"
    assert target(Facts(bad=("Q",)), View(0, ("Q",), ())) is None


def test_an_episode_teaches_what_was_taken() -> None:
    picked = "You pick up the relic S from the ground.\n\nYour score has just gone up by one point.\n\n-= Hall =-"
    ended = "You pick up the relic B from the ground.\n\n*** The End ***"
    said = "You pick up the relic {} from the ground. {} (score 0 of 2)"
    learn = relics_expert.learn
    assert learn([picked, ended], said.format("B", relics.WON)) == [relics.item_key("S"), relics.item_treasure("B")]
    assert learn([ended], said.format("B", relics.SEALED)) == [relics.item_sealed("B")]
    assert learn(["-= Hall =-"], said.format("M", relics.CURSED)) == [relics.item_curse("M")]
    assert learn(["-= Hall =-"], "Failure: round limit reached (score 0 of 2)") == [expert.NOTHING_LEARNT]


def test_what_is_extracted_is_true() -> None:
    """Whatever was misnamed in the transcript."""
    rng = random.Random(2)
    stories: list[Story] = []
    original = relics_corpus.draw_story

    def spy(given: random.Random) -> Story:
        stories.append(original(given))
        return stories[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relics_corpus, "draw_story", spy)
        for _ in range(500):
            example = relics_corpus.extract(rng)
            true = {*stories[-1].truths().splitlines(), expert.NOTHING_LEARNT}
            assert set(example.response.splitlines()) <= true


def test_courses_are_known_by_name() -> None:
    assert get_course("lake") is LAKE
    with pytest.raises(ConfigError, match="two-worlds"):
        get_course("both")
