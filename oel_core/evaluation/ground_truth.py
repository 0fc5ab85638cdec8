"""Suites with ground-truth knowledge of each episode in the prompt: does the policy follow it?"""

from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from oel_core.config.run import Count, OelConfig, Options, Section
from oel_core.envs import check_spec
from oel_core.envs.base import Environment, EnvSpec, env_spec
from oel_core.errors import EnvironmentError_
from oel_core.evaluation.base import EpisodeSuite, held_out
from oel_core.rollouts.playing import EpisodePlan


class GroundTruthOptions(Section):
    """Options of the suites with ground truth in the prompt."""

    episodes: Count = 128
    """Held-out episodes."""
    world: Options = Field(default_factory=dict)
    """Options of the environment that replace the run's own, if it is the run's; `symbols` is set by the suite."""


@runtime_checkable
class HasGroundTruth(Protocol):
    """An environment that can state its hidden facts."""

    def truths(self) -> str:
        """Ground-truth knowledge of this episode."""
        ...


def make_ground_truth_suite(
    name: str, environment: str, symbols: Any, chosen: GroundTruthOptions, config: OelConfig
) -> EpisodeSuite:
    """A suite in that environment, with these symbols. ConfigError for a wrong option of the environment."""
    own = env_spec(config)
    options = own.options if own.name == environment else {}
    spec = EnvSpec(
        environment,
        {**options, **chosen.world, "symbols": symbols},
        own.max_turns,
        own.instructions if own.name == environment else None,
    )
    check_spec(spec)
    plays = held_out(config, spec, config.evaluate.games.sampling, chosen.episodes)
    return EpisodeSuite(name, plays, ground_truth)


def ground_truth(plan: EpisodePlan, environment: Environment) -> str:
    """Ground-truth knowledge of the episode. EnvironmentError_ if the environment cannot state it."""
    if not isinstance(environment, HasGroundTruth):
        raise EnvironmentError_(f"episode {plan.id}: the environment has no truths()")
    return environment.truths()
