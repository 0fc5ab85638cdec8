"""MLflow's scorers: `Correctness`, `Guidelines`, `Safety`, one made with `mlflow.genai.scorer`, any object like them.

A scorer of MLflow is called `scorer.run(inputs=..., outputs=..., expectations=...)` and gives a truth value, a number,
"yes" or "no", or a feedback that holds one of these (https://mlflow.org/docs/latest/genai/eval-monitor/scorers/).
MLflow's ready-made scorers ask a model of the provider that their `model` names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import isclass
from typing import Any

from pydantic import Field

from oel_core.cases.case import Case
from oel_core.cases.scorers.base import PASS, scorer_options
from oel_core.config.section import Options, Section, Text
from oel_core.errors import ConfigError, PolicyError
from oel_core.evaluation.questions import Score
from oel_core.plugins.builtin import SCORERS

READY_MADE = "mlflow.genai.scorers"
_YES = {"yes": True, "no": False, "true": True, "false": False, "pass": True, "fail": False}


class MlflowOptions(Section):
    """Options of `mlflow`."""

    scorer: Text
    """A class of `mlflow.genai.scorers`, like `Correctness`, or `module:attribute` of a scorer or its class."""
    arguments: Options = Field(default_factory=dict)
    """What the class is made with, like `{model: "openai:/gpt-5-mini"}`."""
    passes_at: float = 1.0
    """The least number that is a pass, for scorers that give numbers."""
    is_judge: bool = True
    """False for a scorer that computes: its word counts without agreement with people."""


@dataclass(frozen=True)
class MlflowScorer:
    """One of MLflow's scorers on recorded requests."""

    scorer: Any
    options: MlflowOptions

    @property
    def is_judge(self) -> bool:
        """See `Scorer`."""
        return self.options.is_judge

    def scores(self, case: Case) -> bool:
        """See `Scorer`: what MLflow's scorer needs it says itself when it runs."""
        return True

    def score(self, case: Case, answer: str) -> Score:
        """See `Scorer`.

        Raises:
            PolicyError: the scorer raised, or gave nothing that says pass or fail.
        """
        try:
            given = self.scorer.run(inputs=_inputs(case), outputs=answer, expectations=_expectations(case))
        except Exception as error:  # whatever its provider's client raises
            raise PolicyError(f"MLflow's scorer {self.options.scorer}, {case.id}: {error}") from error
        value, why = getattr(given, "value", given), getattr(given, "rationale", None) or ""
        passed = _passed(value, self.options.passes_at)
        if passed is None:
            problem = getattr(given, "error_message", None) or f"it gave {value!r}"
            raise PolicyError(f"MLflow's scorer {self.options.scorer}, {case.id}: no pass and no fail, {problem}")
        return Score(PASS if passed else 0.0, str(why) or f"it gave {value!r}")


def _inputs(case: Case) -> dict[str, Any]:
    return {"messages": [json.loads(message.model_dump_json()) for message in case.messages]}


def _expectations(case: Case) -> dict[str, Any]:
    """By the names that MLflow's own scorers look for."""
    found: dict[str, Any] = {"expected_response": case.texts[0]} if case.answers else {}
    return found | ({"guidelines": list(case.rubrics)} if case.rubrics else {})


def _passed(value: Any, passes_at: float) -> bool | None:
    value = getattr(value, "value", value)  # MLflow's categorical rating
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return float(value) >= passes_at
    return _YES.get(value.strip().lower()) if isinstance(value, str) else None


def make_mlflow(options: Mapping[str, Any]) -> MlflowScorer:
    """See `MlflowScorer`. ConfigError: there is no such scorer, or MLflow is not installed."""
    chosen = scorer_options("mlflow", MlflowOptions, options)
    place = chosen.scorer if ":" in chosen.scorer else f"{READY_MADE}:{chosen.scorer}"
    found = SCORERS.load(place)
    if isclass(found):
        try:
            found = found(**chosen.arguments)
        except Exception as error:  # MLflow's own types among them
            raise ConfigError(f"scorer mlflow: {chosen.scorer} cannot be made with its arguments: {error}") from error
    if not callable(getattr(found, "run", None)):
        raise ConfigError(
            f"scorer mlflow: {place} is no scorer of MLflow, which has run(inputs, outputs, expectations)"
        )
    return MlflowScorer(found, chosen)
