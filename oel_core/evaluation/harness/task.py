"""Any generative task of lm-evaluation-harness by name, as an out-of-distribution suite."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import AliasChoices, ConfigDict, Field

from oel_core.config.run import Count, OelConfig, Section
from oel_core.config.sampling import Sampling
from oel_core.errors import ConfigError
from oel_core.evaluation.base import OnEpisode, ignore, summarise
from oel_core.evaluation.harness import lm_eval as lm_harness
from oel_core.evaluation.harness.lm_eval import HarnessTask
from oel_core.evaluation.options import parse_options
from oel_core.evaluation.questions import Question, QuestionSet, Score, visible
from oel_core.policies.base import Policy
from oel_core.seeds import derive_seed
from oel_core.types import EvalReport, Trajectory


class LmTaskOptions(Section):
    """Options of a suite that is an lm-eval task."""

    model_config = ConfigDict(populate_by_name=True)

    subset: Count | None = Field(default=None, validation_alias=AliasChoices("subset", "episodes"))
    """Number of documents, the first ones as in lm-eval's `limit`; null for all. Also: `episodes`."""
    metric: str | None = None
    """Metric (`metric` or `metric,filter`) whose value 1 is a pass; null for the task's first."""
    folder: str | None = None
    """Folder with further task files. lm-eval executes Python named in such files: use only trusted ones."""
    seed: int = Field(default=42, ge=0)
    thinking: bool = False
    """Enable the model's thinking, which is not scored."""
    sampling: Sampling | None = None
    """Null for the task's own, which is greedy for most."""


@dataclass(frozen=True)
class LmTask:
    """One task of the harness."""

    task: str
    options: LmTaskOptions

    @property
    def name(self) -> str:
        """The task's name in letters, digits and underscores; that of a subset has its size."""
        plain = "".join(sign if sign.isalnum() else "_" for sign in self.task)
        plain = f"task_{plain}" if plain[0].isdigit() else plain
        return plain if self.options.subset is None else f"{plain}_subset_{self.options.subset}"

    @property
    def thinking(self) -> bool:
        """See `QuestionSuite`."""
        return self.options.thinking

    @cached_property
    def opened(self) -> HarnessTask:
        """The task with its data."""
        return lm_harness.open_task(self.task, self.options.folder, self.options.subset)

    @cached_property
    def headline(self) -> str:
        """`metric,filter` that determines whether a response passes."""
        wanted, known = self.options.metric, self.opened.metrics
        found = [name for name in known if wanted in (None, name, name.partition(",")[0])]
        if not found:
            raise ConfigError(f"suite {self.name}: no metric {wanted}; the task has {', '.join(known)}")
        return found[0]

    @property
    def total(self) -> int:
        """See `Suite`."""
        return len(self.opened.numbers)

    def run(self, policy: Policy, *, done: Sequence[Trajectory] = (), on_episode: OnEpisode = ignore) -> EvalReport:
        """See `Suite.run`. A response passes if the headline metric is 1; the task's figures are in `extra`."""
        chosen = self.options.sampling
        sampling = chosen if chosen is not None else self.opened.sampling
        asking = QuestionSet(self.task, self._questions(), sampling, self._score)
        episodes = asking.run(policy, done, on_episode)
        report = summarise(self.name, policy.name, episodes, layouts=len(episodes))
        return report.model_copy(update={"extra": self._extra(episodes)})

    def _questions(self) -> tuple[Question, ...]:
        pairs = zip(self.opened.numbers, self.opened.prompts, strict=True)
        return tuple(
            Question(f"{self.name}-{number}", messages, number, derive_seed(self.task, self.options.seed, number))
            for number, messages in pairs
        )

    def _score(self, position: int, answer: str) -> Score:
        values = self.opened.measure(position, answer)
        value = values.get(self.headline, 0.0)
        reward = float(all(value)) if isinstance(value, (list, tuple)) else float(value)
        shown = ", ".join(f"{name} {entry}" for name, entry in values.items())
        return Score(reward if math.isfinite(reward) else 0.0, shown[:400])

    def _extra(self, episodes: Sequence[Trajectory]) -> dict[str, Any]:
        """The task's own aggregates. A response that failed technically counts as empty."""
        answers = [
            visible(episode.turns[0].response) if episode.turns and episode.error is None else ""
            for episode in episodes
        ]
        values = [self.opened.measure(position, answer) for position, answer in enumerate(answers)]
        return {
            "task": self.task,
            "headline": self.headline,
            "figures": self.opened.aggregate(values),
            "is_subset": self.options.subset is not None,
            "scorer": lm_harness.version(),
        }


def make_lm_task(name: str, options: Mapping[str, Any], config: OelConfig) -> LmTask:
    """The suite of a task of the harness. Its data is loaded at the first run.

    Raises:
        ConfigError: an option is wrong.
    """
    chosen = parse_options(name, LmTaskOptions, options)
    return LmTask(name, chosen)
