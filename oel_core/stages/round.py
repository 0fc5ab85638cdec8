"""The stages of a round in order; no other module defines this order.

`collect → extract → accumulate → review → saturation → select → distill → evaluate`, without the stages that the
configuration disables; with a bundle `receive` replaces the first two. Round 0 is the base model and is only
evaluated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from oel_core.config.run import OelConfig
from oel_core.rounds.context import DEFAULT_CONTEXT, StageContext
from oel_core.rounds.round import COLLECT, RECEIVE, Round
from oel_core.runs.manifest import Manifest
from oel_core.stages.accumulate import accumulate
from oel_core.stages.collect import collect
from oel_core.stages.distill import distill
from oel_core.stages.evaluate import evaluate, parts, stage_name
from oel_core.stages.exchange.receive import receive
from oel_core.stages.extract import extract
from oel_core.stages.review import review
from oel_core.stages.saturation import saturation
from oel_core.stages.select import select

Work = Callable[[Round, StageContext], Manifest]


@dataclass(frozen=True)
class Stage:
    """One stage of a round; `work` runs it unless it has finished."""

    name: str
    """Its folder within the round, such as `collect` or `evaluate/held_out`."""
    label: str
    """Its name in progress displays."""
    work: Work

    @property
    def kind(self) -> str:
        """The name without the part: `evaluate` of `evaluate/held_out`."""
        return self.name.partition("/")[0]


def knowledge_stages(config: OelConfig) -> list[Stage]:
    """From episodes, or a bundle, to knowledge files."""
    if config.experience.bundle is not None:
        return [Stage(RECEIVE, "import the bundle", receive), Stage("accumulate", "merge knowledge", accumulate)]
    stages = [Stage(COLLECT, "play episodes", collect)]
    if config.knowledge.source.use == "extracted":
        stages.append(Stage("extract", "extract", extract))
    stages.append(Stage("accumulate", "merge knowledge", accumulate))
    return stages


def distillation_stages(config: OelConfig) -> list[Stage]:
    """From knowledge files to weights."""
    stages = []
    if config.review.mode == "required":
        stages.append(Stage("review", "apply the review", review))
    if config.knowledge.saturation.every is not None:
        stages.append(Stage("saturation", "saturation curve", saturation))
    if config.knowledge.selection.use != "all":
        stages.append(Stage("select", "score knowledge", select))
    stages.append(Stage("distill", "distil", distill))
    return stages


def evaluation_stages(wanted: Sequence[str]) -> list[Stage]:
    """One stage for each of these parts of a round's evaluation (`oel_core.stages.evaluate.parts`)."""
    labels = {part: f"evaluate, {part.replace('_', ' ')}" for part in wanted}
    return [Stage(stage_name(part), labels[part], partial(_evaluate, part)) for part in wanted]


def round_stages(round: Round) -> list[Stage]:
    """All stages of a round, in order."""
    config = round.config
    learning = [*knowledge_stages(config), *distillation_stages(config)] if round.number else []
    return [*learning, *evaluation_stages(parts(config, round.number))]


def run_round(round: Round, context: StageContext = DEFAULT_CONTEXT) -> None:
    """Runs one round in this process. Finished stages are skipped.

    Raises:
        ArtifactError: a stage was made with other settings or inputs; the message lists them.
        OelError: as the stages.
    """
    for stage in round_stages(round):
        stage.work(round, context)


def _evaluate(part: str, round: Round, context: StageContext) -> Manifest:
    return evaluate(round, part, context)
