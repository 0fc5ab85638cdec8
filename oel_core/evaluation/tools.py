"""Suites of the tool world: held-out requests to a tool, counted by kind of request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from oel_core.config.run import Count, OelConfig, Options, Section
from oel_core.envs import check_spec, make_env
from oel_core.envs.base import Environment, EnvSpec
from oel_core.envs.tools.env import ToolEnv
from oel_core.evaluation.base import HeldOutPlay, OnEpisode, held_out, ignore
from oel_core.evaluation.options import parse_options
from oel_core.policies.base import Policy
from oel_core.rollouts.playing import EpisodePlan, KnowledgeFor
from oel_core.types import EvalReport, Trajectory

TOOLS = "tools"


class ToolsOptions(Section):
    """Options of the suites of the tool world."""

    episodes: Count = 64
    """Held-out episodes."""
    world: Options = Field(default_factory=dict)
    """Options of the tool world that replace the run's own, if that is its environment."""


@dataclass(frozen=True)
class ToolRequests:
    """Held-out requests to one tool, with one kind of knowledge in every prompt, or none."""

    name: str
    episodes: HeldOutPlay
    knowledge: KnowledgeFor | None

    @property
    def total(self) -> int:
        """See `Suite`."""
        return len(self.episodes.plans)

    def run(self, policy: Policy, *, done: Sequence[Trajectory] = (), on_episode: OnEpisode = ignore) -> EvalReport:
        """See `Suite.run`. The report's `extra` has the tool's number and how many requests of each kind passed."""
        played = self.episodes.run(policy, knowledge=self.knowledge, done=done, on_episode=on_episode)
        spec = self.episodes.spec
        extra = {"tool": spec.options["tool"], "kinds": requests_by_kind(spec, played)}
        return self.episodes.report(self.name, policy, played).model_copy(update={"extra": extra})


def requests_by_kind(spec: EnvSpec, played: Sequence[Trajectory]) -> dict[str, dict[str, int]]:
    """Kind of request → `{"asked": n, "passed": m}` over episodes of the tool world, sorted by name.

    Requests that were not reached, because an earlier one failed, are not counted.
    """
    found: dict[str, dict[str, int]] = {}
    for episode in played:
        environment = make_env(spec, episode.seed)
        assert isinstance(environment, ToolEnv)
        requests = environment.requests
        served = round(episode.reward * len(requests))
        for position, request in enumerate(requests[: served + 1]):
            counts = found.setdefault(request.kind, {"asked": 0, "passed": 0})
            counts["asked"] += 1
            counts["passed"] += position < served
    return dict(sorted(found.items()))


def make_tools(options: Mapping[str, Any], config: OelConfig) -> ToolRequests:
    """The suite `tools`: the run's own tool, or the one in `world`, without knowledge."""
    return _make(TOOLS, 0, None, options, config)


def make_other_tool(options: Mapping[str, Any], config: OelConfig) -> ToolRequests:
    """The suite `other_tool`: the tool with the next number, with its ground truth in the prompt."""
    return _make("other_tool", 1, _truths, options, config)


def _make(
    name: str, after_own: int, knowledge: KnowledgeFor | None, options: Mapping[str, Any], config: OelConfig
) -> ToolRequests:
    chosen = parse_options(name, ToolsOptions, options)
    own = dict(config.environment.options) if config.environment.name == TOOLS else {}
    own["tool"] = own.get("tool", ToolEnv.Options().tool) + after_own
    spec = EnvSpec(TOOLS, {**own, **chosen.world}, config.environment.max_turns)
    check_spec(spec)
    return ToolRequests(name, held_out(config, spec, config.evaluate.games.sampling, chosen.episodes), knowledge)


def _truths(plan: EpisodePlan, environment: Environment) -> str:
    assert isinstance(environment, ToolEnv)
    return environment.truths()
