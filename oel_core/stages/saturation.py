"""Saturation: in-context pass rate as a function of the number of extracted episodes.

Evaluated on validation episodes with the start policy, every `knowledge.saturation.every` episodes up to the last one,
also beyond `use_after`. For information only: no other stage reads it.
"""

from pathlib import Path
from statistics import fmean

from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError
from oel_core.evaluation.validation import candidate
from oel_core.knowledge.selection_records import Score
from oel_core.rounds.context import DEFAULT_CONTEXT, EPISODES, StageContext
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.manifest import Manifest
from oel_core.stages import accumulate
from oel_core.stages.extract import STAGE as EXTRACTED
from oel_core.stages.extract import read_states
from oel_core.stages.scoring import score_candidates, scoring_inputs, scoring_sections
from oel_core.types import Record

STAGE, CURVE = "saturation", "curve.json"
SECTIONS = (*accumulate.SECTIONS, "knowledge.saturation", "knowledge.injection")


class CurvePoint(Record):
    """One replica's knowledge after a number of episodes."""

    episodes: int
    """Extracted episodes; 0 is the knowledge that the round started from."""
    replica: int
    tokens: int
    score: Score


class SaturationCurve(Record):
    """`curve.json`."""

    used_after: int
    """Episodes whose items are used."""
    layouts: int
    """Distinct boards among the validation episodes."""
    points: tuple[CurvePoint, ...]

    def means(self) -> list[tuple[int, float]]:
        """(episodes, mean pass rate over the replicas), in order."""
        places = sorted({point.episodes for point in self.points})
        return [(n, fmean(p.score.pass_rate for p in self.points if p.episodes == n)) for n in places]


def saturation(round: Round, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Scores every replica's knowledge at every point.

    Raises:
        ConfigError: `knowledge.saturation.every` is null, or the world has no validation episodes.
        ArtifactError: an extraction is missing or corrupt, or the stage was made with other settings.
    """
    config = round.config
    if config.knowledge.saturation.every is None:
        raise ConfigError("knowledge.saturation.every is null: say after how many episodes to measure")
    replicas = range(config.collect.replicas)
    inputs = {EXTRACTED: round.stage(EXTRACTED).digest(), "policy": round.start_digest(), **round.previous_input()}

    def work(folder: Path) -> dict[str, float]:
        policy = round.start_policy(context)
        read = read_states(round)
        states = {
            (point, replica): read[replica][: point + 1][-1].knowledge
            for point in points(config)
            for replica in replicas
        }
        candidates = {place: candidate(state, place[0]) for place, state in states.items()}
        episodes, path = config.knowledge.saturation.episodes, folder / EPISODES
        scores, layouts = score_candidates(
            round, policy, list(candidates.values()), episodes, path, context.on_progress
        )
        curve = SaturationCurve(
            used_after=config.use_after,
            layouts=layouts,
            points=tuple(
                CurvePoint(episodes=n, replica=k, tokens=state.tokens, score=scores[candidates[n, k].label])
                for (n, k), state in states.items()
            ),
        )
        write_atomic(folder / CURVE, (curve.model_dump_json(indent=1) + "\n").encode())
        return {f"pass_rate_after_{n}": rate for n, rate in curve.means()}

    return round.perform(STAGE, (*scoring_sections(config), *SECTIONS), inputs | scoring_inputs(round), work)


def points(config: OelConfig) -> list[int]:
    """Numbers of episodes to evaluate at: 0, multiples of `every`, and all."""
    total, every = config.collect.extraction_episodes, config.knowledge.saturation.every or 1
    return sorted({*range(0, total + 1, every), total})
