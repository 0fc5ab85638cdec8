"""The model registry of a project: champion, history of promotions, rollback.

A promotion moves several aliases, and a kill may come between any two of them. So the intent is written to the registry
first (write-ahead, one tag), and the next process that opens the registry completes it. Readers of `champion` see the
old or the new one; `previous` is moved before `champion`.
"""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from oel_core.errors import ArtifactError, ConfigError
from oel_core.gate.promotion import Verdict
from oel_core.gate.sessions import CONDITION
from oel_core.runs.folder import RunFolder
from oel_core.runs.lease import held
from oel_core.runs.processes import user_name
from oel_core.text.invalid import described
from oel_core.text.visible import visible, visible_json
from oel_core.types import Record
from tasks.tracking.client import CANDIDATE, Tracker, tracker_of
from tasks.tracking.settings import TrackingSettings

CHAMPION, PREVIOUS = "champion", "previous"
INTENT, EVENT = "oel.intent", "oel.event."
CHECK, REFUSED = "oel.gate.check.", "REFUSED"
LEASE, LEASE_TIMEOUT_S = ".registry.json", 30.0
MAX_REASON = 1000


class Move(Record):
    """A change of the champion: first an intent, after completion an entry of the history."""

    number: int
    """Position in the history, from 1."""
    id: str
    """Idempotency key."""
    action: Literal["promote", "rollback"]
    champion: str | None
    """Version after the move; None is the preset's model."""
    previous: str | None
    replaced: str | None
    """Version that was champion before."""
    by: str
    reason: str
    at: float
    """Seconds since 1970, UTC."""


class Version(Record):
    """One registered version of the project's model."""

    version: str
    round: int
    digest: str
    source: str
    aliases: tuple[str, ...]
    tags: dict[str, str]


Step = Callable[[str], None]
"""Called before each write with its name; used by tests to kill the process there."""


def ignore_step(step: str) -> None:
    """The default `on_step`: does nothing."""


class Registry:
    """The registered model of one run folder. Changes are exclusive (lease) and idempotent."""

    def __init__(self, tracker: Tracker, *, on_step: Step = ignore_step) -> None:
        if tracker.settings.registered_model is None:
            raise ConfigError(
                "registered_model is null in mlflow.yaml: without a registered model there is no champion. Name one"
            )
        self.model: str = tracker.settings.registered_model
        self._client, self._run, self._on_step = tracker.client, tracker.run, on_step
        tracker.ensure_model(self.model)

    def reconcile(self) -> Move | None:
        """Completes the pending move of a killed process, if any, and returns it."""
        with self._alone():
            return self._reconcile()

    def champion(self) -> Version | None:
        """The champion; None while it is the preset's model.

        Raises:
            ArtifactError: the champion is a version of another run.
        """
        return self.aliased(CHAMPION)

    def awaiting_deployment(self) -> Version | None:
        """The newest version if the gate lacks nothing but sessions of the deployment, and it was never champion.

        Raises:
            ArtifactError: the candidate is a version of another run.
        """
        found = self.aliased(CANDIDATE)
        if found is None or any(found.version in (move.champion, move.replaced) for move in self.history()):
            return None
        refused = [name for name, value in found.tags.items() if name.startswith(CHECK) and value.startswith(REFUSED)]
        return found if refused == [f"{CHECK}{CONDITION}"] else None

    def version_of_round(self, round_index: int) -> Version:
        """The newest version of a round, or ConfigError that lists the rounds there are."""
        found = [version for version in self.versions() if version.round == round_index]
        if not found:
            known = ", ".join(str(version.round) for version in self.versions()) or "none"
            raise ConfigError(f"round {round_index} of {self._run.name} is not registered: registered are {known}")
        return found[-1]

    def versions(self) -> list[Version]:
        """All versions of this run, oldest first."""
        aliases = self._aliases()
        found = self._client.search_model_versions(f"name = '{self.model}' and tags.run = '{self._run.name}'")
        return sorted((_version(entry, aliases) for entry in found), key=lambda version: int(version.version))

    def history(self) -> list[Move]:
        """All completed moves, oldest first."""
        tags = self._tags()
        return [_move(value) for name, value in sorted(tags.items()) if name.startswith(EVENT)]

    def promote(self, version: Version, *, id: str, reason: str, expected: str | Literal["any"] | None = "any") -> Move:
        """Makes a version the champion. `expected` is the version that must be champion now (None: none must be).

        Raises:
            ArtifactError: another version became champion in the meantime.
        """
        with self._alone():
            self._reconcile()
            history = self.history()
            done = next((move for move in history if move.id == id), None)
            if done is not None:
                return done
            now = self._aliases().get(CHAMPION)
            if expected not in ("any", now):
                raise ArtifactError(
                    f"version {now or '(the preset model)'} became champion of {self.model} in the meantime, "
                    f"version {version.version} was compared with {expected or '(the preset model)'}"
                )
            previous = self._aliases().get(PREVIOUS) if now == version.version else now
            return self._commit("promote", id, version.version, previous, now, reason, len(history))

    def rollback(self, *, reason: str) -> Move:
        """Makes the version before the champion the champion again; before the first one is the preset's model.

        Raises:
            ConfigError: there is no champion to roll back.
        """
        with self._alone():
            self._reconcile()
            aliases, history = self._aliases(), self.history()
            now, target = aliases.get(CHAMPION), aliases.get(PREVIOUS)
            if now is None:
                raise ConfigError(f"{self.model} has no champion to roll back: it is the preset's model already")
            number = len(history) + 1
            return self._commit(
                "rollback", f"rollback-{number}", target, _below(history, target), now, reason, number - 1
            )

    def tag_verdict(self, version: Version, verdict: Verdict) -> None:
        """Writes every figure of the gate as tags of the version."""
        for name, value in verdict_tags(verdict).items():
            self._client.set_model_version_tag(self.model, version.version, name, visible(value))

    def _alone(self) -> Any:
        return held(self._run.path / LEASE, "moving the champion", wait_s=LEASE_TIMEOUT_S)

    def _commit(
        self,
        action: Literal["promote", "rollback"],
        id: str,
        champion: str | None,
        previous: str | None,
        replaced: str | None,
        reason: str,
        before: int,
    ) -> Move:
        move = Move(
            number=before + 1,
            id=id,
            action=action,
            champion=champion,
            previous=previous,
            replaced=replaced,
            by=f"{user_name()}@{socket.gethostname()}",
            reason=reason[:MAX_REASON],
            at=time.time(),
        )
        self._on_step("intent")
        self._note(INTENT, move)
        self._finish(move)
        return move

    def _reconcile(self) -> Move | None:
        intent = self._tags().get(INTENT)
        if intent is None:
            return None
        move = _move(intent)
        self._finish(move)
        return move

    def _finish(self, move: Move) -> None:
        """Applies an intent; idempotent."""
        for alias, version in ((PREVIOUS, move.previous), (CHAMPION, move.champion)):
            self._on_step(alias)
            if version is not None:
                self._client.set_registered_model_alias(self.model, alias, version)
            elif alias in self._aliases():
                self._client.delete_registered_model_alias(self.model, alias)
        self._on_step("event")
        self._note(f"{EVENT}{move.number:06d}", move)
        self._on_step("done")
        self._client.delete_registered_model_tag(self.model, INTENT)

    def _note(self, tag: str, move: Move) -> None:
        self._client.set_registered_model_tag(self.model, tag, visible_json(move.model_dump_json()))

    def _tags(self) -> Mapping[str, str]:
        return dict(self._client.get_registered_model(self.model).tags)

    def _aliases(self) -> dict[str, str]:
        """Alias → version."""
        found = self._client.get_registered_model(self.model).aliases
        return {str(alias): str(version) for alias, version in found.items()}

    def aliased(self, alias: str) -> Version | None:
        """The version of an alias, or None; ArtifactError when it is another run's."""
        aliases = self._aliases()
        if alias not in aliases:
            return None
        found = _version(self._client.get_model_version(self.model, aliases[alias]), aliases)
        if found.tags.get("run") != self._run.name:
            raise ArtifactError(
                f"{alias} of {self.model} is version {found.version}, which belongs to run '{found.tags.get('run')}', "
                f"not to '{self._run.name}': give each project a registered model of its own in mlflow.yaml"
            )
        return found


def _below(history: Sequence[Move], version: str | None) -> str | None:
    """The version that `version` once replaced, following promotions and rollbacks in order."""
    stack: list[str] = []
    for move in history:
        if move.action == "promote" and move.champion is not None:
            stack.append(move.champion)
        elif stack:
            stack.pop()
    positions = [index for index, entry in enumerate(stack) if entry == version]
    return stack[positions[-1] - 1] if positions and positions[-1] > 0 else None


def _version(entry: Any, aliases: Mapping[str, str]) -> Version:
    """As `Version`; a manually registered version counts as round 0."""
    tags = dict(entry.tags)
    return Version(
        version=str(entry.version),
        round=int(tags.get("round", 0)),
        digest=tags.get("digest", ""),
        source=entry.source,
        aliases=tuple(sorted(alias for alias, version in aliases.items() if version == str(entry.version))),
        tags=tags,
    )


def _move(text: str) -> Move:
    try:
        return Move.model_validate_json(text)
    except ValidationError as error:
        raise ArtifactError(f"the registry holds a move that cannot be read: {described(error, 'the move')}") from error


def verdict_tags(verdict: Verdict) -> dict[str, str]:
    """The gate's figures as tags with a common prefix."""
    held_out = verdict.held_out
    tags = {
        "oel.gate": "promote" if verdict.promote else "refuse",
        "oel.gate.champion_round": str(verdict.champion),
        "oel.gate.pass_rate": f"{held_out.second:.4f}",
        "oel.gate.champion_pass_rate": f"{held_out.first:.4f}",
        "oel.gate.difference": f"{held_out.difference:+.4f}",
        "oel.gate.interval": f"{held_out.low:+.4f} {held_out.high:+.4f}",
        "oel.gate.probability": f"{held_out.probability:.4f}",
        "oel.gate.won_lost": f"{held_out.won} {held_out.lost}",
    }
    if verdict.trial is not None:
        tags |= {"oel.gate.trial": str(verdict.trial.number), "oel.gate.level": f"{verdict.trial.level:.3g}"}
    for check in verdict.checks:
        name = check.name.replace("/", ".")
        tags[f"{CHECK}{name}"] = f"{'ok' if check.passed else REFUSED}: {check.value:.4f}, {check.bound}"
    return tags


def registry_of(settings: TrackingSettings, run: RunFolder) -> Registry:
    """The registry of a run folder, after completing the pending move of a killed process.

    Raises:
        ConfigError: no registered model is configured.
    """
    registry = Registry(tracker_of(settings, run))
    registry.reconcile()
    return registry
