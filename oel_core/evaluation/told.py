"""Suites that tell the player the truth about its own world, whatever that world is: does it follow what it reads?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from oel_core.config.run import Count, OelConfig, Options, Section
from oel_core.envs import check_spec
from oel_core.envs.base import Environment, EnvSpec, env_spec
from oel_core.errors import EnvironmentError_
from oel_core.evaluation.base import HeldOutPlay, OnEpisode, held_out, ignore
from oel_core.policies.base import Policy
from oel_core.rollouts.playing import EpisodePlan
from oel_core.types import EvalReport, Trajectory


class ToldOptions(Section):
    """Options of the suites that tell the truth."""

    episodes: Count = 128
    """Held-out episodes."""
    world: Options = Field(default_factory=dict)
    """Options of that world that replace those of the run's own, where it is the same; `symbols` is the suite's."""


@runtime_checkable
class Truthful(Protocol):
    """An environment whose hidden facts can be written down."""

    def truths(self) -> str:
        """Ground-truth knowledge of this episode."""
        ...


@dataclass(frozen=True)
class ToldSuite:
    """Held-out episodes, each with the ground truth about its own world in context."""

    name: str
    episodes: HeldOutPlay

    @property
    def total(self) -> int:
        """See `Suite`."""
        return len(self.episodes.plans)

    def run(self, policy: Policy, *, done: Sequence[Trajectory] = (), on_episode: OnEpisode = ignore) -> EvalReport:
        """See `Suite.run`."""
        played = self.episodes.run(policy, knowledge=_truths, done=done, on_episode=on_episode)
        return self.episodes.report(self.name, policy, played)


def make_told(name: str, environment: str, symbols: Any, chosen: ToldOptions, config: OelConfig) -> ToldSuite:
    """A suite in that environment, with these symbols. Raises ConfigError for a wrong option of the world."""
    own = env_spec(config)
    options = own.options if own.name == environment else {}
    spec = EnvSpec(
        environment,
        {**options, **chosen.world, "symbols": symbols},
        own.max_turns,
        own.instructions if own.name == environment else None,
    )
    check_spec(spec)
    return ToldSuite(name, held_out(config, spec, config.evaluate.games.sampling, chosen.episodes))


def _truths(plan: EpisodePlan, environment: Environment) -> str:
    if not isinstance(environment, Truthful):
        raise EnvironmentError_(f"episode {plan.id}: nobody knows the truth about this world")
    return environment.truths()
