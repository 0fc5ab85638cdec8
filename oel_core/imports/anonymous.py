"""Anonymises the sessions of an import, in this process or on workers of a Ray cluster."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial

from oel_core.config.serving import RunnerConfig
from oel_core.imports.presidio import find_nothing, finder
from oel_core.imports.privacy import Masking, Privacy
from oel_core.imports.records import Call, Session
from oel_core.policies.replicated.dispatch import dispatch

Anonymise = Callable[[Iterable[Sequence[Session]]], Iterator[list[Session | None]]]
"""Batches of sessions → the same, anonymised; None for a session that is to be dropped."""


@dataclass(frozen=True)
class Anonymiser:
    """The settings of an import that workers need: a value that can be sent to them."""

    privacy: Privacy
    salt: bytes = field(repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)
    """Further words to mask."""
    pii: str | None = None
    """A spaCy model for Presidio."""

    def masking(self) -> Masking:
        """The masking of these settings, created once per process.

        Raises:
            ConfigError: Presidio or its model is not installed here.
        """
        return _masking(self)

    def sessions(self, batch: Sequence[Session]) -> list[Session | None]:
        """Each session anonymised; None for one that is to be dropped. Raises ConfigError as `masking`."""
        return [self._session(one) for one in batch]

    def _session(self, session: Session) -> Session | None:
        masking = self.masking()
        kept = Session(session.format, tuple(self._call(call, masking) for call in session.calls))
        if self.privacy is Privacy.KEEP:
            return kept
        masked = masking.session(kept)
        return None if self.privacy is Privacy.DROP and masked != kept else masked

    def _call(self, call: Call, masking: Masking) -> Call:
        """The call with pseudonyms for the source's ids of session and user, in every privacy mode.

        Token ids encode the text and cannot be masked, so they are kept only with `Privacy.KEEP`.
        """
        changed: dict[str, object] = {"session": masking.id(call.session), "user": masking.id(call.user)}
        if self.privacy is not Privacy.KEEP:
            changed |= {"prompt_ids": (), "response_ids": ()}
        return call.model_copy(update=changed)


@lru_cache(maxsize=1)
def _masking(settings: Anonymiser) -> Masking:
    find = find_nothing if settings.pii is None else finder(settings.pii)
    return Masking(settings.salt, settings.names, find)


@contextmanager
def anonymising(settings: Anonymiser, runner: RunnerConfig) -> Iterator[Anonymise]:
    """Where the runner has it; its workers end with the context.

    Raises:
        ConfigError, PolicyError: as `start_workers` and, while in use, `dispatch`.
    """
    if runner.use == "local":
        yield partial(map, settings.sessions)
        return
    from oel_core.policies.replicated.ray_workers import start_workers

    workers = start_workers(runner)
    try:
        yield partial(dispatch, workers, settings.sessions)
    finally:
        for worker in workers:
            worker.close()
