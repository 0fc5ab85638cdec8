"""Out-of-distribution suites on the lake, for the embedded model: can it still follow what its prompt says?

Consolidation teaches what the deployment's symbols mean. These suites put true knowledge about *other* meanings in
context, so a model that only learnt the deployment's letters by heart fails them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from oel_core.config import Count, OelConfig, Section
from oel_core.envs.base import Environment, EnvSpec
from oel_core.envs.lake import DEPLOYMENT_SYMBOLS, ROLES, LakeEnv, Role
from oel_core.errors import EnvironmentError_
from oel_core.evaluation.base import HeldOutPlay, OnEpisode, held_out, ignore
from oel_core.evaluation.options import parse_options
from oel_core.policies.base import Policy
from oel_core.rollout import EpisodePlan
from oel_core.types import EvalReport, Trajectory


class LakeSuiteOptions(Section):
    """Options of the lake suites."""

    episodes: Count = 128
    """Held-out episodes."""
    world: dict[str, Any] = Field(default_factory=dict)
    """Options of the lake that replace those of the run's own lake; `symbols` is the suite's."""


@dataclass(frozen=True)
class LakeSuite:
    """Held-out lake episodes, each with the ground truth about its own symbols in context."""

    name: str
    episodes: HeldOutPlay

    def run(self, policy: Policy, *, done: Sequence[Trajectory] = (), on_episode: OnEpisode = ignore) -> EvalReport:
        """See `Suite.run`."""
        played = self.episodes.run(policy, knowledge=_truths, done=done, on_episode=on_episode)
        return self.episodes.report(self.name, policy, played)


def make_other_symbols(options: Mapping[str, Any], config: OelConfig) -> LakeSuite:
    """Boards whose symbols are drawn anew every episode: the general skill of following knowledge."""
    return _make("other_symbols", "random", options, config)


def make_swapped_roles(options: Mapping[str, Any], config: OelConfig) -> LakeSuite:
    """The deployment's symbols with their roles swapped, so that what was learnt contradicts what is read."""
    own = config.environment.options.get("symbols") if config.environment.name == "lake" else None
    letters = {**DEPLOYMENT_SYMBOLS, **own} if isinstance(own, Mapping) else DEPLOYMENT_SYMBOLS
    return _make("swapped_roles", swap_roles(letters), options, config)


def swap_roles(symbols: Mapping[Role, str]) -> dict[Role, str]:
    """Each role gets the letter of its opposite: hole and goal change places, and so do trap and key."""
    return {role: symbols[opposite] for role, opposite in zip(ROLES, reversed(ROLES), strict=True)}


def _make(
    name: str, symbols: dict[Role, str] | Literal["random"], options: Mapping[str, Any], config: OelConfig
) -> LakeSuite:
    chosen = parse_options(name, LakeSuiteOptions, options)
    own = config.environment.options if config.environment.name == "lake" else {}
    spec = EnvSpec("lake", {**own, **chosen.world, "symbols": symbols}, config.environment.max_turns)
    LakeEnv(spec, 0)  # a wrong option is refused before anything is played
    return LakeSuite(name, held_out(config, spec, config.evaluate.games.sampling, chosen.episodes))


def _truths(plan: EpisodePlan, environment: Environment) -> str:
    if not isinstance(environment, LakeEnv):
        raise EnvironmentError_(f"episode {plan.id} is no lake episode: nobody knows the truth about it")
    return environment.truths()
