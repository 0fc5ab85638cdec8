"""Rounds of the corridor with a tiny model: where they are played, and where a bundle is distilled."""

from pathlib import Path
from typing import Any

from oel_core.config.run import ModelConfig, OelConfig, parse_config
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import open_run
from oel_core.seeds import derive_seed
from oel_core.stages.round import knowledge_stages
from oel_core.types import Message

ITEM = "- EXPERIENCE ITEM: the goal is to the right, note"
REPLICAS = 2


def player(messages: tuple[Message, ...], seed: int) -> str:
    """Extracts an item, writes a prompt from one, or moves, as it is asked."""
    system = messages[0].content
    if "study one finished episode" in system:
        return f"{ITEM} {seed % 1000}"
    if "You write examples" in system:
        return f"Which way is the goal, request {seed % 1000}?"
    return f"I go [{'right' if derive_seed('player', seed) % 2 else 'left'}]"


def load(path: str, model: ModelConfig) -> Policy:
    """The scripted policy in place of any model."""
    return ScriptedPolicy(player, batch_size=4)


SCRIPTED = StageContext(load)


def config(weights: Path, **sections: Any) -> OelConfig:
    """Two replicas of three episodes, and two steps of two."""
    values: dict[str, Any] = {
        "rounds": 1,
        "model": {"path": str(weights), "max_length": 4096},
        "environment": {"name": "corridor", "max_turns": 3},
        "collect": {"replicas": REPLICAS, "extraction_episodes": 3},
        "knowledge": {"max_tokens": 400},
        "distill": {"steps": 2, "episodes_per_step": 2, "max_response_tokens": 4, "top_k": 4, "checkpoint_every": 2},
        "evaluate": {"games": {"episodes": 2, "arms": []}},
    }
    return parse_config(values | sections, "test")


def played(root: Path, weights: Path, name: str = "user", context: StageContext = SCRIPTED, **sections: Any) -> Round:
    """A round with its knowledge, as the user's machine has it."""
    round = Round(config(weights, **sections), open_run(root, name), 1)
    for stage in knowledge_stages(round.config):
        stage.work(round, context)
    return round


def received(root: Path, weights: Path, bundle: Path, name: str = "server", **sections: Any) -> Round:
    """A round of a bundle, on a machine that has not the environment, with nothing done yet."""
    experience = {"bundle": str(bundle)} | sections.pop("experience", {})
    absent = {"name": "absent", "max_turns": 3}
    configuration = config(weights, **({"environment": absent, "experience": experience} | sections))
    return Round(configuration, open_run(root, name), 1)
