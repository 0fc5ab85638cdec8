"""The embedded two-world model: matches this code, and has the skills for the relics."""

import random
from collections.abc import Iterator

import pytest

from oel_core import envs
from oel_core.config.run import ModelConfig, PlayConfig
from oel_core.config.sampling import Sampling
from oel_core.envs.base import LEARN_RULES, EnvSpec
from oel_core.models.checkpoints import SEED_LM_TWO_WORLDS, SEED_LM_TWO_WORLDS_WEIGHTS
from oel_core.models.loading import load_model
from oel_core.policies import load_policy, release
from oel_core.policies.base import Policy, Request
from oel_core.prompts.extraction import itemised
from oel_core.prompts.extraction.base import extraction_messages
from oel_core.rollouts.playing import plan_episodes, play_episodes
from oel_core.seed_lm import expert, relics_corpus
from oel_core.seed_lm.courses import TWO_WORLDS
from oel_core.seed_lm.tokenizer import build_tokenizer
from oel_core.types import Split, Trajectory

EPISODES = 64
PLAY = PlayConfig(history_turns=0, sampling=Sampling(temperature=0.7, top_p=0.8, top_k=20, max_tokens=48))


@pytest.fixture(scope="module")
def policy() -> Iterator[Policy]:
    yield load_policy(SEED_LM_TWO_WORLDS, ModelConfig(batch_size=EPISODES))
    release()


@pytest.fixture(autouse=True)
def _stories(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled: the story is the game's, byte for byte (tests/envs/test_relics.py)."""
    monkeypatch.setitem(envs.REGISTRY, "story", "oel_core.envs.textworld.relics_story:Story")


def test_the_shipped_tokenizer_is_the_one_this_code_builds() -> None:
    _, shipped = load_model(SEED_LM_TWO_WORLDS, ModelConfig())
    assert shipped.get_vocab() == build_tokenizer(TWO_WORLDS.phrases).get_vocab()


def test_the_package_stays_small() -> None:
    assert sum(path.stat().st_size for path in SEED_LM_TWO_WORLDS_WEIGHTS.iterdir()) < 2.5 * 2**20


def played(policy: Policy, environment: str, told: bool, **options: object) -> list[Trajectory]:
    """Validation episodes, with or without the truth in context."""
    spec = EnvSpec(environment, options, max_turns=10)
    plans = plan_episodes(spec, 1, Split.VALIDATION, 0, 0, EPISODES, split_by_layout=False)

    def truths(_plan: object, environment: object) -> str:
        return str(environment.truths())  # type: ignore[attr-defined]

    return list(play_episodes(policy, spec, plans, PLAY, knowledge=truths if told else None, seed=0))


def rate(episodes: list[Trajectory]) -> float:
    return sum(episode.passed for episode in episodes) / len(episodes)


@pytest.mark.parametrize(("environment", "least"), [("story", 0.7), ("lake", 0.65)])
def test_it_follows_knowledge_about_letters_it_has_never_seen_in_these_meanings(
    policy: Policy, environment: str, least: float
) -> None:
    assert rate(played(policy, environment, True, symbols="random")) > least


@pytest.mark.parametrize("environment", ["story", "lake"])
def test_it_does_not_know_without_being_told(policy: Policy, environment: str) -> None:
    assert rate(played(policy, environment, False, symbols="random")) < 0.35


def test_it_extracts_what_an_episode_teaches(policy: Policy) -> None:
    rng = random.Random(11)
    wanted = [relics_corpus.extract(rng) for _ in range(EPISODES)]
    requests = [Request(example.messages, seed) for seed, example in enumerate(wanted)]
    written = policy.generate(requests, Sampling(temperature=0.0, max_tokens=64))
    exact = sum(answer.text == example.response for answer, example in zip(written, wanted, strict=True))
    assert exact > 0.85 * EPISODES


def test_what_it_extracts_from_its_own_play_is_true(policy: Policy) -> None:
    episodes = played(policy, "story", False)
    requests = [Request(extraction_messages(itemised.FORMAT, LEARN_RULES, episode, None, 4), 0) for episode in episodes]
    written = policy.generate(requests, Sampling(temperature=0.0, max_tokens=64))
    items = [item for answer in written for item in itemised.parse(answer.text) if item != expert.NOTHING_LEARNT]
    true = set(envs.make_env(EnvSpec("story"), 0).truths().splitlines())  # type: ignore[attr-defined]
    assert len(items) > EPISODES / 4
    assert sum(item in true for item in items) > 0.85 * len(items)
