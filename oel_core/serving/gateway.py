"""Builds a project's gateway from its settings."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError
from oel_core.imports.privacy import Masking, Privacy, salt_of
from oel_core.plugins.builtin import POLICIES
from oel_core.policies.openai.managed_server import stop_servers
from oel_core.runs.locks import exclusive
from oel_core.serving.answering.base import Backend
from oel_core.serving.answering.candidate import Candidates, Withdrawals
from oel_core.serving.answering.champion import Champion, ChampionManager, Lookup
from oel_core.serving.answering.in_process import PolicyBackend
from oel_core.serving.answering.upstream import UpstreamBackend
from oel_core.serving.api.app import gateway
from oel_core.serving.api.chat import RECORD_WAIT_S, ChatService
from oel_core.serving.api.limits import Queue
from oel_core.serving.api.metrics import Metrics
from oel_core.serving.recording.feedback import ClientFeedback
from oel_core.serving.recording.handover import Handover, require_inbox
from oel_core.serving.recording.journal import Journal
from oel_core.serving.recording.recorder import Recorder
from oel_core.serving.recording.traces import Traces, Viewer

LOCK = ".serve.lock"


@dataclass(frozen=True)
class Gateway:
    """A gateway that is ready to run."""

    app: FastAPI
    version: str
    """The version served at the start."""
    inbox: Path


def load_backend(champion: Champion, config: OelConfig) -> Backend:
    """Loads a version with the project's backend.

    Raises:
        ConfigError: the backend cannot swap models while it serves, or as the policy's `load`.
        ArtifactError, PolicyError: as the policy's `load`.
    """
    model = config.model
    if model.backend == "vllm":
        raise ConfigError(
            "model.backend is vllm, whose engine in this process cannot answer while it loads another model: set "
            "model.backend=openai with model.openai.managed=true, or give the address of a server"
        )
    if model.backend != "openai":
        return PolicyBackend(POLICIES.load(model.backend)(champion.path, model), config.play.sampling)
    if model.openai.managed and not model.makes_adapters:
        raise ConfigError(
            "model.openai.managed serves other champions as adapters, and without model.lora rounds make whole models: "
            "start a server of your own for the champion and set model.openai.base_url"
        )
    return UpstreamBackend.load(champion.path, model)


@contextmanager
def open_gateway(
    project: str, config: OelConfig, lookup: Lookup, token: str, viewer: Viewer | None = None
) -> Iterator[Gateway]:
    """The gateway of a project. Holds the exclusive lock of the inbox's recorder until the block ends, and then stops
    the model's server if it is a managed one.

    Args:
        project: its name, which is the name of the model for clients.
        lookup: finds the versions that are to answer.
        viewer: where people look at recorded answers and rate them, if anywhere.

    Raises:
        ArtifactError: the inbox or what it holds cannot be used.
        BusyError: another gateway runs.
        ConfigError, PolicyError: as `load_backend`, or what `lookup` raises.
    """
    settings, metrics = config.serve, Metrics()
    inbox = require_inbox(config.experience.inbox)
    with exclusive(inbox / LOCK), ExitStack() as held:
        held.callback(stop_servers)
        journal = Journal.open(inbox)
        handover = Handover(journal, inbox, config.environment.name, settings.top_score)
        masking, privacy = Masking(salt_of(inbox)), Privacy(settings.privacy)
        traces = Traces(viewer, settings.traces_s, lambda given: _rate(recorder, metrics, given)) if viewer else None
        shown = traces.show if traces else lambda call: None
        queue = Queue(settings.concurrency, settings.queue, settings.timeout_s + RECORD_WAIT_S)
        recorder = Recorder(journal, handover, masking, privacy, settings.session_idle_s, metrics, shown, queue.oldest)
        withdrawals = Withdrawals(inbox)
        champions = ChampionManager(
            lookup, lambda champion: load_backend(champion, config), settings.refresh_s, metrics, withdrawals
        )

        def withdraw(version: str, reason: str) -> None:
            metrics.candidates_withdrawn.inc()
            withdrawals.add(version, reason)

        candidates = Candidates(config.gate.deployment.use, settings.candidate, champions, withdraw)
        version = champions.load()
        chats = ChatService(project, settings, queue, champions, candidates, recorder, metrics)
        if traces:
            held.enter_context(traces.running())
        yield Gateway(gateway(chats, settings, token), version, inbox)


def _rate(recorder: Recorder, metrics: Metrics, given: ClientFeedback) -> None:
    """Takes feedback from elsewhere. Raises what the disk says: it is given again then."""
    taken = recorder.add_feedback(given).result()
    if taken is None:
        metrics.feedback.labels("unknown", "").inc()
    elif taken.new:
        metrics.feedback.labels("late" if taken.late else "recorded", taken.version).inc()
