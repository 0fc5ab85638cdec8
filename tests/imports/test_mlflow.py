"""Traces and feedback that the installed MLflow itself has logged, read back from its store and imported."""

import os
import subprocess
import sys
from pathlib import Path

from oel_core.types import StopReason
from tests.imports.reading import imported

AGENT = """
import mlflow
from mlflow.entities import AssessmentSource, SpanType

mlflow.set_tracking_uri("sqlite:///traces.db")
mlflow.set_experiment("shop")
human = AssessmentSource("HUMAN", "kim")


@mlflow.trace(span_type=SpanType.AGENT)
def agent(history):
    mlflow.update_current_trace(metadata={"mlflow.trace.session": "s1", "mlflow.trace.user": "kim"})
    with mlflow.start_span("model", span_type=SpanType.CHAT_MODEL) as span:
        message = {"role": "assistant", "content": f"answer {len(history)}"}
        span.set_inputs({"messages": history, "model": "shop-1"})
        span.set_outputs({"choices": [{"message": message, "finish_reason": "stop"}]})
    return message


history = [{"role": "user", "content": "Hello"}]
history += [agent(history), {"role": "user", "content": "Bye"}]
agent(history)
mlflow.flush_trace_async_logging()
trace = mlflow.get_last_active_trace_id()
wrong = mlflow.log_feedback(trace_id=trace, name="quality", value=False, rationale="bad", source=human)
mlflow.override_feedback(
    trace_id=trace, assessment_id=wrong.assessment_id, value=True, rationale="fine after all", source=human
)
mlflow.log_expectation(trace_id=trace, name="answer", value="Good bye.", source=human)
mlflow.log_expectation(trace_id=trace, name="guidelines", value=["Be polite."], source=human)
found = mlflow.search_traces(return_type="list")
with open("traces.jsonl", "w") as file:
    for each in found:
        file.write(mlflow.get_trace(each.info.trace_id).to_json() + "\\n")
"""


def test_what_mlflow_logged_is_one_session_with_its_last_feedback(tmp_path: Path) -> None:
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    command = [sys.executable, "-c", AGENT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result, (episode,) = imported("mlflow-traces", tmp_path / "traces.jsonl", tmp_path / "in")
    assert (result.entries, result.calls, result.left_out) == (2, 2, {})
    assert [turn.response for turn in episode.turns] == ["answer 1", "answer 3"]
    assert episode.turns[0].observation == "Bye"
    assert episode.turns[1].stop_reason is StopReason.EOS
    assert (episode.policy, episode.reward) == ("shop-1", 1.0)
    assert episode.feedback == (
        "human (quality) on answer 2: thumbs up; comment: fine after all\n"
        "human (answer) on answer 2: expected answer: Good bye.\n"
        'human (guidelines) on answer 2: a right answer has to: ["Be polite."]'
    )
    assert episode.user
    assert [one.thumbs for one in episode.turns[1].given if not one.superseded] == [True, None, None]
