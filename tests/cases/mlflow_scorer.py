"""A scorer as MLflow's users write one."""

from typing import Any

from mlflow.entities import Feedback
from mlflow.genai import scorer


@scorer
def short(outputs: Any) -> Feedback:
    return Feedback(value=len(outputs) < 50, rationale=f"{len(outputs)} characters")
