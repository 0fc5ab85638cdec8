"""Online experiential learning in a few calls, for notebooks and scripts: `import oel_core as oel`.

The first argument `what` is a preset's name, a YAML file, an environment's name (with defaults for everything else), or
a configuration. `settings` are overrides as on the command line, like `"play.history_turns=0"`; `policy` is a
checkpoint that replaces `model.path`. Only checkpoints and runs are written to disk.
"""

from collections.abc import Sequence
from pathlib import Path

from oel_core.config.run import OelConfig, default_config, load_config
from oel_core.errors import ConfigError
from oel_core.rounds.summary import RoundSummary
from oel_core.types import EvalReport, Knowledge, Split, Trajectory

What = str | OelConfig


def configure(what: What, *, policy: str | None = None, settings: Sequence[str] = ()) -> OelConfig:
    """The configuration of a call.

    Raises:
        ConfigError: `what` is neither a preset, nor a file, nor an environment, or a setting is wrong.
    """
    from oel_core.envs import env_names

    if isinstance(what, OelConfig):
        if settings:
            raise ConfigError("settings go with a preset or an environment; a configuration has its own")
        config = what
    elif what in env_names() or ":" in what:
        config = default_config([f"environment.name={what}", *settings])
    else:
        config = load_config(what, settings)
    if policy is None:
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"path": policy})})


def play(
    what: What,
    *,
    policy: str | None = None,
    episodes: int = 8,
    knowledge: str = "",
    split: Split = Split.EXTRACT,
    settings: Sequence[str] = (),
) -> list[Trajectory]:
    """Plays episodes and returns them in the order of their seeds.

    Args:
        knowledge: text in every prompt; empty for none.
        split: selects the seeds; different splits have no seed in common.

    Raises:
        ConfigError: an environment, its options or a setting is wrong.
        PolicyError: the policy cannot be loaded, or cannot generate.
    """
    from oel_core.envs.base import env_spec
    from oel_core.policies import load_policy
    from oel_core.rollouts.playing import plan_episodes, play_episodes
    from oel_core.seeds import SEEDINGS

    config = _with_threads(configure(what, policy=policy, settings=settings))
    spec, world = env_spec(config), config.environment
    plans = plan_episodes(
        spec, config.seed, split, 1, 0, episodes, world.split_by_layout, seeding=SEEDINGS[world.seeds]
    )
    played = play_episodes(
        load_policy(config.model.path, config.model),
        spec,
        plans,
        config.play,
        knowledge=(lambda plan, environment: knowledge) if knowledge else None,
        seed=config.seed,
        injection=config.knowledge.injection,
    )
    return sorted(played, key=lambda episode: episode.index)


def extract(
    what: What,
    episodes: Sequence[Trajectory],
    *,
    policy: str | None = None,
    previous: Knowledge | None = None,
    settings: Sequence[str] = (),
) -> Knowledge:
    """Knowledge that the policy extracts from episodes, in order, merged and truncated to `knowledge.max_tokens`.

    Raises:
        ExtractionError: the policy failed for all episodes.
        ConfigError, PolicyError: as `play`; ConfigError also without episodes.
    """
    from oel_core.envs import answer_shape, extraction_examples, extraction_task
    from oel_core.knowledge.extraction import extract_replicas
    from oel_core.policies import load_policy

    if not episodes:
        raise ConfigError("there are no episodes to extract knowledge from")
    config = _with_threads(configure(what, policy=policy, settings=settings))
    found = extract_replicas(
        load_policy(config.model.path, config.model),
        {0: list(episodes)},
        config.extract.model_copy(update={"use_after": len(episodes)}),
        task=extraction_task(config),
        examples=extraction_examples(config),
        shape=answer_shape(config),
        previous={} if previous is None else {0: previous},
        cap=config.knowledge,
        round_index=1,
        seed=config.seed,
    )
    return found[0].knowledge


def distill(
    what: What,
    episodes: Sequence[Trajectory],
    knowledge: Sequence[Knowledge],
    folder: str | Path,
    *,
    policy: str | None = None,
    settings: Sequence[str] = (),
) -> str:
    """Consolidates knowledge into the weights on the prompts of `episodes`; returns the path of the new checkpoint.

    The episodes are distributed over `distill.steps` optimiser steps. Repeating the call resumes a killed one.

    Raises:
        ExtractionError: no knowledge, or an empty text.
        DistillationError: training cannot start or continue.
        ArtifactError: the folder was begun with other inputs.
        ConfigError, PolicyError: as `play`.
    """
    from oel_core.distillation.training.run import distill as train
    from oel_core.policies import release
    from oel_core.rounds.prompts import prompts_of

    config = _with_threads(configure(what, policy=policy, settings=settings))
    steps = config.distill.steps
    release()
    return str(
        train(
            model=config.model,
            start=config.model.path,
            steps=[[prompt for episode in episodes[n::steps] for prompt in prompts_of(episode)] for n in range(steps)],
            knowledge=list(knowledge),
            config=config.distill,
            workdir=Path(folder),
            seed=config.seed,
            injection=config.knowledge.injection,
        )
    )


def evaluate(
    what: What,
    *,
    policy: str | None = None,
    episodes: int | None = None,
    knowledge: str = "",
    settings: Sequence[str] = (),
) -> EvalReport:
    """Pass rate on held-out episodes, with a Wilson interval, tokens and truncation.

    Args:
        episodes: number of episodes; None for `evaluate.games.episodes`.
        knowledge: text in every prompt (the in-context arm); empty for none.

    Raises:
        ConfigError, PolicyError: as `play`.
    """
    from oel_core.evaluation import make_suite
    from oel_core.policies import load_policy

    config = _with_threads(configure(what, policy=policy, settings=settings))
    texts = {"arm": "in_context", "texts": [knowledge]} if knowledge else {}
    suite = make_suite("games", {"episodes": episodes, **texts}, config)
    return suite.run(load_policy(config.model.path, config.model))


def run_round(what: What, folder: str | Path, *, round_index: int = 1, settings: Sequence[str] = ()) -> RoundSummary:
    """One whole round in a run folder, as `oel run` does it, without Prefect and MLflow; finished stages are skipped.

    Raises:
        BusyError: another process works on the run.
        ArtifactError: the folder was begun with other settings.
        OelError: as the stages.
    """
    from oel_core.rounds.round import Round
    from oel_core.rounds.summary import summarise_round
    from oel_core.runs.folder import adopt_config, open_run
    from oel_core.stages import round as rounds

    config = configure(what, settings=settings)
    run = open_run(Path(folder).parent, Path(folder).name)
    round = Round(config, run, round_index)
    with run.locked():
        adopt_config(run, config)
        rounds.run_round(round)
    return summarise_round(round)


def _with_threads(config: OelConfig) -> OelConfig:
    """Sets torch's number of threads (`model.threads`)."""
    from oel_core.models.threads import use_threads

    use_threads(config.model)
    return config
