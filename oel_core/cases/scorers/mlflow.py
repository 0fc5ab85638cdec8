"""MLflow's scorers: `Correctness`, `Guidelines`, `Safety`, or any made with `mlflow.genai.scorer`.

An MLflow scorer is called as `scorer.run(inputs=..., outputs=..., expectations=...)` and returns a bool, a number,
"yes" or "no", or a `Feedback` with one of these (https://mlflow.org/docs/latest/genai/eval-monitor/scorers/).
MLflow's built-in scorers call the model that their `model` names.
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
    """A class of `mlflow.genai.scorers`, such as `Correctness`, or `module:attribute` of a scorer or scorer class."""
    arguments: Options = Field(default_factory=dict)
    """Arguments of the class, such as `{model: "openai:/gpt-5-mini"}`."""
    passes_at: float = 1.0
    """Minimum number that is a pass, for numeric scorers."""
    is_judge: bool = True
    """False for a deterministic scorer: its scores count without agreement with people."""


@dataclass(frozen=True)
class MlflowScorer:
    """An MLflow scorer for cases."""

    scorer: Any
    options: MlflowOptions

    @property
    def is_judge(self) -> bool:
        """See `Scorer`."""
        return self.options.is_judge

    def scores(self, case: Case) -> bool:
        """See `Scorer`. MLflow's scorer checks its own requirements when it runs."""
        return True

    def score(self, case: Case, answer: str) -> Score:
        """See `Scorer`.

        Raises:
            PolicyError: the scorer raised, or its result is neither pass nor fail.
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
    """Expectations under the names that MLflow's built-in scorers use."""
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
