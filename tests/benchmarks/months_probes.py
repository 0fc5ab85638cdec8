"""What a round's model still does beside its task: its KL from the base model, what it follows and what it claims."""

import json
import re
from itertools import islice
from pathlib import Path
from statistics import fmean

from oel_core.config.run import OelConfig
from oel_core.envs import make_env
from oel_core.envs.base import env_spec
from oel_core.evaluation.ground_truth import HasGroundTruth
from oel_core.rounds.outcomes import read_episodes
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.stages.measure import measure
from tests.benchmarks.base_kl import base_kl

EPISODES = 16
"""Held-out episodes whose responses are compared with the base model."""
BOARDS = {"episodes": 32}
"""Held-out boards of the two other probes."""
CLAIMS_NOTHING = re.compile(r"Bad:\?; key:\?; (goal|gate):\?\.")
"""How the seed model's responses begin where they name no letter's meaning."""


def base_distance(root: Path, round: Round) -> float:
    """The KL of the round's model from the base model, measured once."""
    path = root / "base_kl" / round.run.name / f"{round.number}.json"
    if not path.exists():
        episodes = islice(read_episodes(round.stage("evaluate/held_out").path), EPISODES)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(base_kl(round.config, round.model(), episodes)).encode())
    found: float = json.loads(path.read_text())
    return found


def follows_contrary(root: Path, round: Round) -> float:
    """The pass rate by the rules of the other side of the change, with true knowledge of them in the prompt."""
    config = round.settings
    start, change = config.at_round(0), config.at_round(config.environment.changes[0].round)
    contrary = start if round.config.environment == change.environment else change
    folder = root / "contrary" / round.run.name / str(round.number)
    return measure(folder, contrary, round.model(), "games", BOARDS, knowledge=truths(contrary)).pass_rate


def truths(config: OelConfig) -> str:
    """What is true in a run's environment, as an extractor would write it."""
    environment = make_env(env_spec(config), 0)
    assert isinstance(environment, HasGroundTruth)
    try:
        return environment.truths()
    finally:
        environment.close()


def hedges(root: Path, round: Round) -> float:
    """The share of boards with letters never met on which the model, without knowledge, claims no letter's meaning."""
    folder = root / "unknown" / round.run.name / str(round.number)
    measure(folder, with_unknown_letters(round.config), round.model(), "games", BOARDS)
    first = [episode.turns[0].response for episode in read_episodes(folder)]
    return fmean(bool(CLAIMS_NOTHING.match(response)) for response in first)


def with_unknown_letters(config: OelConfig) -> OelConfig:
    """The configuration with letters that are drawn for every episode."""
    environment = config.environment
    drawn = environment.model_copy(update={"options": {**environment.options, "symbols": "random"}})
    return config.model_copy(update={"environment": drawn})
