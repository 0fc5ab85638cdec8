"""The embedded model: matches this code, and has the skills that the loop needs."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from oel_core.config.run import ModelConfig, PlayConfig
from oel_core.config.sampling import Sampling
from oel_core.envs import lake
from oel_core.envs.base import LEARN_RULES, EnvSpec
from oel_core.envs.lake import LakeEnv
from oel_core.models.loading import load_model
from oel_core.policies import load_policy, release
from oel_core.policies.base import Policy, Request
from oel_core.prompts.extraction import itemised
from oel_core.prompts.extraction.base import extraction_messages
from oel_core.rollouts.playing import plan_episodes, play_episodes
from oel_core.seed_lm import WEIGHTS, corpus, expert
from oel_core.seed_lm.tokenizer import build_tokenizer
from oel_core.seed_lm.train import train
from oel_core.types import Split

EPISODES = 64
PLAY = PlayConfig(history_turns=0, sampling=Sampling(temperature=0.7, top_p=0.8, top_k=20, max_tokens=48))


@pytest.fixture(scope="module")
def policy() -> Iterator[Policy]:
    yield load_policy("seed-lm", ModelConfig(batch_size=EPISODES))
    release()


def test_the_shipped_tokenizer_is_the_one_this_code_builds() -> None:
    _, shipped = load_model("seed-lm", ModelConfig())
    built = build_tokenizer()
    assert shipped.get_vocab() == built.get_vocab()
    assert shipped.chat_template == built.chat_template


def test_the_package_stays_small() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 4 * 2**20


def passes(policy: Policy, *, told: bool) -> float:
    """Pass rate on validation boards with symbols drawn anew, with or without the truth in context."""
    spec = EnvSpec("lake", {"symbols": "random"}, max_turns=10)
    plans = plan_episodes(spec, 1, Split.VALIDATION, 0, 0, EPISODES, split_by_layout=False)

    def truths(_plan: object, environment: object) -> str:
        assert isinstance(environment, LakeEnv)
        return environment.truths()

    played = play_episodes(policy, spec, plans, PLAY, knowledge=truths if told else None, seed=0)
    return sum(episode.passed for episode in played) / EPISODES


def test_it_follows_knowledge_about_symbols_it_has_never_seen_in_these_roles(policy: Policy) -> None:
    assert passes(policy, told=True) > 0.7


def test_it_does_not_know_without_being_told(policy: Policy) -> None:
    assert passes(policy, told=False) < 0.3


def test_it_extracts_what_an_episode_teaches(policy: Policy) -> None:
    rng = random.Random(11)
    wanted = [corpus.extract(rng) for _ in range(EPISODES)]
    requests = [Request(example.messages, seed) for seed, example in enumerate(wanted)]
    written = policy.generate(requests, Sampling(temperature=0.0, max_tokens=64))
    exact = sum(answer.text == example.response for answer, example in zip(written, wanted, strict=True))
    assert exact > 0.9 * EPISODES


def test_what_it_extracts_from_its_own_play_is_true(policy: Policy) -> None:
    """Its own play names targets that are not there, which the expert's never does."""
    spec = EnvSpec("lake", {}, max_turns=10)
    plans = plan_episodes(spec, 3, Split.VALIDATION, 0, 0, EPISODES, split_by_layout=True)
    played = list(play_episodes(policy, spec, plans, PLAY, seed=0))
    requests = [Request(extraction_messages(itemised.FORMAT, LEARN_RULES, episode, None, 4), 0) for episode in played]
    written = policy.generate(requests, Sampling(temperature=0.0, max_tokens=64))
    items = [item for answer in written for item in itemised.parse(answer.text) if item != expert.NOTHING_LEARNT]
    true = set(LakeEnv(spec, 0).truths().splitlines()) | {lake.item_goal("G"), lake.item_gate("G")}
    assert len(items) > EPISODES / 2
    assert sum(item in true for item in items) > 0.8 * len(items)


@pytest.mark.slow
def test_training_starts_goes_on_and_saves_a_model(tmp_path: Path) -> None:
    """A few steps only: that the loss falls from scratch, and that a second training starts where the first ended."""
    reports: list[str] = []
    first = train(tmp_path / "first", steps=10, seed=3, report=reports.append)
    second = train(tmp_path / "second", steps=5, seed=3, start=tmp_path / "first", report=reports.append)
    assert second["loss"] < first["loss"]
    assert len(reports) == 2
    model, tokenizer = load_model(str(tmp_path / "second"), ModelConfig())
    assert model.num_parameters() == second["parameters"]
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
