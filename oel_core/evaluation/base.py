"""The interface of an evaluation suite, the resumable playing of its episodes, and the report of all suites."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Protocol

from oel_core import envs
from oel_core.config.knowledge import InjectionConfig
from oel_core.config.run import OelConfig, PlayConfig
from oel_core.config.sampling import Sampling
from oel_core.config.serving import LOCAL_RUNNER, RunnerConfig
from oel_core.envs.base import EnvSpec
from oel_core.errors import ArtifactError, ConfigError
from oel_core.evaluation.stats import wilson
from oel_core.policies.base import Policy
from oel_core.policies.replicated.policy import ReplicatedPolicy
from oel_core.prompts.injection import GLOBAL
from oel_core.rollouts.playing import EpisodePlan, KnowledgeFor, count_layouts, plan_episodes, play_episodes, unfinished
from oel_core.seeds import SEEDINGS, Seeding
from oel_core.types import EvalReport, Split, StopReason, Trajectory

OnEpisode = Callable[[Trajectory], None]


def ignore(episode: Trajectory) -> None:
    """The default `on_episode`: does nothing."""


class Suite(Protocol):
    """One measurement of a policy on held-out episodes."""

    @property
    def name(self) -> str:
        """Name in reports; letters, digits and underscores."""
        ...

    @property
    def total(self) -> int:
        """Number of episodes or questions; may load the suite's data."""
        ...

    def run(self, policy: Policy, *, done: Sequence[Trajectory] = (), on_episode: OnEpisode = ignore) -> EvalReport:
        """Plays the episodes that are not in `done`, calls `on_episode` with each new one, and reports on all.

        Raises:
            ArtifactError: `done` has episodes of another suite or configuration.
        """
        ...


@dataclass(frozen=True)
class HeldOutPlay:
    """The episodes of a suite, with environment and sampling."""

    spec: EnvSpec
    plans: tuple[EpisodePlan, ...]
    play: PlayConfig
    seed: int
    """The loop seed, for sampling and for the episodes of `drawn`."""
    split_by_layout: bool
    """Whether layouts are restricted to the held-out share."""
    seeding: Seeding
    """Where environment seeds come from."""
    injection: InjectionConfig = GLOBAL
    """How knowledge is inserted into prompts."""
    runner: RunnerConfig = LOCAL_RUNNER
    """Where layouts are found."""

    def drawn(self, round_index: int, replica: int, episodes: range, split: Split = Split.HELD_OUT) -> "HeldOutPlay":
        """The episodes of a split with the indices `episodes` of a round and replica.

        Raises:
            ConfigError: as `plan_episodes`.
        """
        plans = plan_episodes(
            self.spec,
            self.seed,
            split,
            round_index,
            replica,
            episodes.stop,
            split_by_layout=self.split_by_layout,
            seeding=self.seeding,
            runner=self.runner,
        )
        return replace(self, plans=tuple(plans[episodes.start :]))

    def run(
        self, policy: Policy, *, knowledge: KnowledgeFor | None, done: Sequence[Trajectory], on_episode: OnEpisode
    ) -> list[Trajectory]:
        """All episodes in the order of their plans; `on_episode` is not called for those in `done`."""
        episodes = {episode.id: episode for episode in done}
        self._check(done)
        waiting = unfinished(self.plans, set(episodes), policy)
        if not isinstance(policy, ReplicatedPolicy):  # whose workers make their own
            envs.prepare_envs(self.spec, [plan.seed for plan in waiting], os.cpu_count() or 1)
        playing = play_episodes(
            policy, self.spec, waiting, self.play, knowledge=knowledge, seed=self.seed, injection=self.injection
        )
        for episode in playing:
            if episode.id not in episodes:
                episodes[episode.id] = episode
                on_episode(episode)
        return [episodes[plan.id] for plan in self.plans]

    def _check(self, done: Sequence[Trajectory]) -> None:
        planned = {(plan.id, plan.seed) for plan in self.plans}
        for episode in done:
            if (episode.id, episode.seed) not in planned or episode.env != self.spec.name:
                raise ArtifactError(
                    f"episode {episode.id} (seed {episode.seed}, {episode.env}) is none of this suite's: it was played "
                    "for another suite or configuration. Remove its file to evaluate again"
                )

    def report(self, suite: str, policy: Policy, played: Sequence[Trajectory]) -> EvalReport:
        """The report on episodes that `run` returned."""
        return summarise(suite, policy.name, played, layouts=count_layouts(self.spec, self.plans, self.runner))


@dataclass(frozen=True)
class EpisodeSuite:
    """A suite of held-out episodes of one environment, with or without knowledge in the prompts. See `Suite`."""

    name: str
    episodes: HeldOutPlay
    knowledge: KnowledgeFor | None = None
    """The knowledge text of an episode's prompts."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Additional entries of the report."""

    @property
    def total(self) -> int:
        """See `Suite`."""
        return len(self.episodes.plans)

    def run(self, policy: Policy, *, done: Sequence[Trajectory] = (), on_episode: OnEpisode = ignore) -> EvalReport:
        """See `Suite.run`."""
        played = self.episodes.run(policy, knowledge=self.knowledge, done=done, on_episode=on_episode)
        return self.episodes.report(self.name, policy, played).model_copy(update={"extra": dict(self.extra)})


def held_out(
    config: OelConfig,
    spec: EnvSpec,
    sampling: Sampling,
    episodes: int,
    *,
    split_by_layout: bool | None = None,
    split: Split = Split.HELD_OUT,
) -> HeldOutPlay:
    """The first `episodes` held-out seeds of the run, in the environment `spec`; the same in every round.

    `split_by_layout` replaces the run's own setting; `split` may be the validation episodes instead.
    """
    plays = HeldOutPlay(
        spec,
        (),
        config.play.model_copy(update={"sampling": sampling}),
        config.seed,
        config.environment.split_by_layout if split_by_layout is None else split_by_layout,
        SEEDINGS[config.environment.seeds],
        runner=config.runner,
    )
    return plays.drawn(0, 0, range(episodes), split)


def summarise(suite: str, policy_name: str, trajectories: Sequence[Trajectory], *, layouts: int = 0) -> EvalReport:
    """The report on one policy's episodes. An episode that failed technically counts as not passed.

    Token and turn figures cover all played turns, those of failed episodes included; `layouts` is copied.

    Raises:
        ConfigError: no episodes.
    """
    if not trajectories:
        raise ConfigError(f"suite {suite} has no episodes: ask for at least one")
    turns = [turn for episode in trajectories for turn in episode.turns]
    passed = sum(episode.passed and episode.error is None for episode in trajectories)
    return EvalReport(
        suite=suite,
        policy=policy_name,
        episodes=len(trajectories),
        passed=passed,
        pass_rate=passed / len(trajectories),
        ci95=wilson(passed, len(trajectories)),
        response_tokens=_mean([len(turn.response_ids) for turn in turns]),
        turns=_mean([len(episode.turns) for episode in trajectories]),
        trajectory_tokens=sum(len(turn.response_ids) for turn in turns) / len(trajectories),
        truncation_rate=_mean([turn.stop_reason is StopReason.LENGTH for turn in turns]),
        invalid_rate=_mean([turn.action is None for turn in turns]),
        errors=sum(episode.error is not None for episode in trajectories),
        layouts=layouts,
    )


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
