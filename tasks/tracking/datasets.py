"""The episodes of a round as MLflow datasets: training data and evaluation data."""

import json

from oel_core.rounds.context import TRAJECTORIES
from oel_core.rounds.outcomes import read_episodes
from oel_core.rounds.round import Round
from oel_core.runs.manifest import digest_bytes
from tasks.tracking.client import TrackedData

OOD = "evaluate/ood/"


def experience(round: Round, stage: str) -> TrackedData:
    """The collected episodes, a file of the run folder."""
    path, manifest = round.stage(stage).path / TRAJECTORIES, round.stage(stage).manifest()
    counts = manifest.counts
    return TrackedData(
        name=f"{round.run.name} round {round.number} experience",
        digest=manifest.outputs[TRAJECTORIES].digest,
        context="training",
        source_type="local",
        source={"uri": path.resolve().as_uri()},
        profile={name: counts[name] for name in ("episodes", "passed", "turns") if name in counts},
    )


def measured(round: Round, stage: str) -> TrackedData:
    """The episodes of one evaluation, by environment and seed; the same dataset for every round and policy."""
    config = round.config
    world, suite = config.environment, stage.removeprefix(OOD) if stage.startswith(OOD) else None
    source = {"environment": world.name, "options": dict(config.evaluate.ood[suite] if suite else world.options)}
    played = sorted(
        f"{episode.env} {episode.split.value} {episode.seed}" for episode in read_episodes(round.stage(stage).path)
    )
    return TrackedData(
        name=f"{world.name} {suite or 'held out'}",
        digest=digest_bytes("\n".join([json.dumps(source, sort_keys=True, default=str), *played]).encode()),
        context="evaluation",
        source_type="oel",
        source=source,
        profile={"episodes": len(played)},
    )
