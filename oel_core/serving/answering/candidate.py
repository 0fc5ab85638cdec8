"""Which sessions a candidate answers, or answers too, and when it has failed too often.

A session is drawn by a hash of its id and the candidate's version: it stays with the version it got, also after the
gateway was started again, and another candidate gets other sessions. A session without an id is known by its person
and its first message, which every request of a conversation repeats.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from oel_core.config.serving import CandidateTraffic
from oel_core.projects.deployment import DEPLOYMENT, WITHDRAWN, Withdrawal, withdrawn
from oel_core.runs.jsonl import JsonlWriter, recover_jsonl
from oel_core.serving.answering.base import ChatRequest
from oel_core.serving.answering.champion import ActiveVersion, ChampionManager

log = logging.getLogger(__name__)
Use = Literal["off", "canary", "shadow"]


class Withdrawals:
    """The candidates of one inbox that get no traffic any more. Only one process writes them down."""

    def __init__(self, inbox: Path) -> None:
        """Raises ArtifactError: the file cannot be read."""
        self._path = inbox / DEPLOYMENT / WITHDRAWN
        recover_jsonl(self._path, Withdrawal)
        self._known = set(withdrawn(inbox))

    def __contains__(self, version: object) -> bool:
        return version in self._known

    def add(self, version: str, reason: str) -> None:
        """Withdraws a version for good. A disk that fails is logged: it is withdrawn until the gateway stops."""
        self._known.add(version)
        try:
            with JsonlWriter(self._path) as writer:
                writer.append(Withdrawal(version=version, reason=reason, at=time.time()))
        except OSError as error:
            log.error("%s cannot be written (%s): %s is a candidate again after a restart", self._path, error, version)


class Candidates:
    """Draws sessions for the candidate, and withdraws it. Used on one event loop."""

    def __init__(
        self,
        use: Use,
        config: CandidateTraffic,
        champions: ChampionManager,
        withdraw: Callable[[str, str], None],
    ) -> None:
        """`withdraw` is told version and reason."""
        self._use, self._config, self._champions, self._withdraw = use, config, champions, withdraw
        self._failures: dict[str, int] = {}
        """Version → requests in a row that it did not answer."""

    def of(self, request: ChatRequest, use: Use) -> ActiveVersion | None:
        """The candidate if the request is of a session that it is used for in this way."""
        candidate = self._champions.candidate
        if candidate is None or use != self._use:
            return None
        return candidate if share_of(candidate.champion.version, request) < self._config.share else None

    def answered(self, candidate: ActiveVersion) -> None:
        """It answered a request."""
        self._failures.pop(candidate.champion.version, None)

    def failed(self, candidate: ActiveVersion, error: Exception) -> None:
        """It did not answer one."""
        version = candidate.champion.version
        failures = self._failures[version] = self._failures.get(version, 0) + 1
        log.error("the candidate %s failed (%d in a row): %s", version, failures, error)
        if failures == self._config.most_failures:
            reason = f"it failed {failures} requests in a row, the last time: {error}"
            log.error("the candidate %s is withdrawn: %s", version, reason)
            self._withdraw(version, reason)
            self._champions.withdraw(candidate)


def share_of(version: str, request: ChatRequest) -> float:
    """Where a session lies between 0 and 1, evenly spread and the same for all its requests."""
    key = ["session", request.session] if request.session else ["first", request.user, _first(request.body)]
    digest = hashlib.sha256(json.dumps([version, *key]).encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _first(body: Any) -> str:
    """The first message that is no instruction."""
    said = [one for one in body["messages"] if isinstance(one, dict) and one.get("role") == "user"]
    return json.dumps(said[0].get("content") if said else None, sort_keys=True)
