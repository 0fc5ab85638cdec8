"""Answers of the gateway as traces in MLflow, and people's assessments of them as feedback.

What people say in MLflow's UI about a trace (or by `mlflow.log_feedback`) is read again and again: changed assessments
are new ones, which replace those before of the same person and name. Deleting one takes nothing back.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from oel_core.imports.fields import mapping, text
from oel_core.imports.formats.mlflow_traces import assessments
from oel_core.imports.records import Call
from oel_core.policies.openai.chat_body import chat_body
from oel_core.serving.recording.feedback import ClientFeedback
from oel_core.types import Feedback
from tasks.tracking.client import Tracker

log = logging.getLogger(__name__)
PROJECT, RESPONSE = "oel.project", "oel.response"
"""Tags of a trace: the project that answered, and the id of the answer."""
SESSION, USER = "mlflow.trace.session", "mlflow.trace.user"
LOOKED_AT_S = 30 * 86400.0
"""How old a trace may be whose assessments are read."""


class MlflowTraces:
    """See `oel_core.serving.recording.traces.Viewer`."""

    def __init__(self, tracker: Tracker, project: str, top_score: float) -> None:
        """`top_score`: the best score that feedback can give."""
        self._tracker, self._project, self._top_score = tracker, project, top_score
        self._refused: set[str] = set()

    def show(self, call: Call) -> None:
        """See `Viewer.show`."""
        (answer,) = chat_body("", [call.response])["messages"]
        choice = {"index": 0, "message": answer, "finish_reason": "stop"}
        who = {name: value for name, value in ((SESSION, call.session), (USER, call.user)) if value}
        self._tracker.log_trace(
            inputs=chat_body(call.model, call.messages),
            outputs={"model": call.model, "choices": [choice]},
            tags={PROJECT: self._project, RESPONSE: call.id, "oel.version": call.model}
            | {f"oel.{name.rpartition('.')[2]}": value for name, value in who.items()},
            metadata=who,
            at=call.at or time.time(),
        )

    def feedback(self) -> Iterator[ClientFeedback]:
        """See `Viewer.feedback`."""
        since = int((time.time() - LOOKED_AT_S) * 1000)
        for info in self._tracker.traces(f"tags.`{PROJECT}` = '{self._project}' and trace.timestamp_ms > {since}"):
            rows = info.get("assessments") or []
            response = text(mapping(info.get("tags") or {}, "info.tags").get(RESPONSE))
            for row, (_, said) in zip(rows, assessments(rows), strict=True):
                if not said.superseded and self._usable(row, said):
                    yield _given(response, row, said)

    def _usable(self, row: Mapping[str, Any], said: Feedback) -> bool:
        id = text(row.get("assessment_id"))
        if said.score is None or 0 <= said.score <= self._top_score:
            return True
        if id not in self._refused:
            self._refused.add(id)
            log.error(
                "an assessment in MLflow has the score %g, which is not from 0 to %g (serve.top_score): it is not used",
                said.score,
                self._top_score,
            )
        return False


def _given(response: str, row: Mapping[str, Any], said: Feedback) -> ClientFeedback:
    who = text(mapping(row.get("source") or {}, "info.assessments.source").get("source_id"))
    source_id = f"mlflow-{text(row.get('assessment_id'))}-{text(row.get('last_update_time'))}"
    return ClientFeedback(response=response, user=who, source_id=source_id, feedback=said)
