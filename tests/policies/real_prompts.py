"""Prompts as they occur: turns of the embedded model's own games."""

from oel_core.config.run import ModelConfig, PlayConfig
from oel_core.config.sampling import Sampling
from oel_core.envs.base import EnvSpec
from oel_core.models.checkpoints import SEED_LM
from oel_core.policies.base import Request
from oel_core.policies.hf.policy import TransformersPolicy
from oel_core.rollouts.playing import plan_episodes, play_episodes
from oel_core.types import Split

GREEDY = Sampling(temperature=0, max_tokens=32)
SPEC = EnvSpec("lake", {}, 4)


def real_requests(episodes: int) -> list[Request]:
    """The first two turns of some games; the seed of each is its number."""
    policy = TransformersPolicy.load(SEED_LM, ModelConfig(device="cpu", max_length=1024))
    plans = plan_episodes(SPEC, 0, Split.VALIDATION, 0, 0, episodes, False)
    play = PlayConfig(sampling=Sampling(temperature=0, max_tokens=32))
    played = play_episodes(policy, SPEC, plans, play, seed=0)
    turns = [turn for episode in played for turn in episode.turns[:2]]
    return [Request(turn.messages, number) for number, turn in enumerate(turns)]
