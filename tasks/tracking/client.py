"""Experiment tracking. The only module that imports MLflow.

A loop has one MLflow run (parent) and one per round (child); a study has one, and one for each of its runs. They are
always addressed by explicit ids, which are stored in the run folder, and every MLflow run has the folder's key as a
tag, so a restarted process finds them again after a kill at any moment. A metric's value at a step and a parameter are
logged once, whatever is repeated.
"""

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, SpanType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from pydantic import Field

from oel_core import __version__
from oel_core.config.run import OelConfig
from oel_core.config.urls import without_secrets
from oel_core.errors import ServiceError
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import CONFIG, RunFolder
from oel_core.runs.locks import exclusive_after_wait
from oel_core.runs.manifest import flatten, read_record
from oel_core.runs.processes import user_name
from oel_core.text.visible import visible
from oel_core.types import Record
from tasks.tracking.pages import view_tag
from tasks.tracking.settings import TrackingSettings
from tasks.tracking.waiting import RetryingClient, retried

IDS = "mlflow.json"
KEY, ROUND, LOGGED, PARENT = "oel.key", "oel.round", "oel.logged", "mlflow.parentRunId"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Has the UI open with the runs and their metrics."""
NOTE, SOURCE, SOURCE_TYPE, USER = "mlflow.note.content", "mlflow.source.name", "mlflow.source.type", "mlflow.user"
MAX_VALUE, MAX_PARAMS, MAX_METRICS, MAX_TRACES = 6000, 100, 1000, 100
SQLITE = "sqlite:///"
OTHER_SCHEMA = "out-of-date database schema"
"""Words of MLflow's refusal of a database."""
LOOP = "loop"
CANDIDATE = "candidate"
SCHEMA = json.dumps(
    {
        "mlflow_colspec": [
            {"name": name, "type": kind, "required": True}
            for name, kind in (("id", "string"), ("env", "string"), ("seed", "long"), ("reward", "double"))
        ]
    }
)
"""Columns of episodes, as MLflow writes schemas down."""


class TrackedRun(Record):
    """`mlflow.json` in a run folder."""

    key: str
    """Identifies this run folder in MLflow, whatever its name."""
    tracking_uri: str = ""
    runs: dict[str, str] = Field(default_factory=dict)
    """`loop` or the number of a round → MLflow run id."""


class TrackedData(Record):
    """Episodes used for training or evaluation."""

    name: str
    digest: str
    """Equal for equal data; at most 36 characters."""
    context: Literal["training", "evaluation"]
    source_type: str
    source: dict[str, Any]
    profile: dict[str, float]
    """Counts of the data."""


def tracked_run(run: RunFolder) -> TrackedRun:
    """The run folder's MLflow record; created at the first use."""
    path = run.path / IDS
    if not path.exists():
        _write(run, TrackedRun(key=uuid.uuid4().hex))
    return read_record(path, TrackedRun)


def _write(run: RunFolder, tracked: TrackedRun) -> None:
    write_atomic(run.path / IDS, tracked.model_dump_json(indent=1).encode())


class Tracker:
    """Tracks one run folder in MLflow. Its settings are resolved."""

    def __init__(self, settings: TrackingSettings, run: RunFolder) -> None:
        self.settings, self.run = settings, run
        self.client, self.experiment = connect(settings)
        self._ids: dict[str, str] = {}
        self._metrics: dict[tuple[str, str], dict[int, float]] = {}

    def run_id(self, name: str) -> str:
        """The MLflow run of the loop (`loop`), of a round (its number) or of a study's run; found or created."""
        if name not in self._ids:
            known = self._noted().runs.get(name)
            found = known if known and self._exists(known) else retried(lambda: self._find(name))
            noted = self._noted()  # read again: finding a round may have noted the loop
            _write(self.run, noted.model_copy(update={"runs": {**noted.runs, name: found}}))
            self._ids[name] = found
        return self._ids[name]

    def _noted(self) -> TrackedRun:
        """The run folder's record, without ids of another tracking server."""
        noted = tracked_run(self.run)
        uri = without_secrets(self.settings.tracking_uri)
        return noted if noted.tracking_uri == uri else TrackedRun(key=noted.key, tracking_uri=uri)

    def _exists(self, run_id: str) -> bool:
        try:
            return self.client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _find(self, name: str) -> str:
        """Finds it by its tags (a kill may have come between creating the run and storing its id) or creates one."""
        key = self._noted().key
        found = self.client.search_runs([self.experiment], f"tags.`{KEY}` = '{key}' and tags.`{ROUND}` = '{name}'")
        if found:
            return str(found[0].info.run_id)
        tags = {KEY: key, ROUND: name, "oel.folder": visible(str(self.run.path.resolve()))}
        tags |= {SOURCE: f"oel {__version__}", SOURCE_TYPE: "LOCAL", USER: user_name()}
        if name != LOOP:
            tags[PARENT] = self.run_id(LOOP)
        title = self.run.name if name == LOOP else f"{self.run.name} {f'round {name}' if name.isdigit() else name}"
        return str(self.client.create_run(self.experiment, tags=tags, run_name=title).info.run_id)

    @contextmanager
    def running(self, name: str) -> Iterator[str]:
        """Marks the run RUNNING during the block, then FINISHED, FAILED on an exception, or KILLED on an interrupt."""
        run_id = self.run_id(name)
        self.client.update_run(run_id, status="RUNNING")
        try:
            yield run_id
        except Exception as error:
            self.client.set_tag(run_id, "oel.error", visible(f"{type(error).__name__}: {error}")[:MAX_VALUE])
            self.client.set_terminated(run_id, "FAILED")
            raise
        except BaseException:
            self.client.set_terminated(run_id, "KILLED")
            raise
        self.client.set_terminated(run_id, "FINISHED")

    def describe(self, name: str, text: str) -> None:
        """Sets the run's description in the UI, a Markdown text of at most `MAX_VALUE` characters."""
        self.client.set_tag(self.run_id(name), NOTE, visible(text)[:MAX_VALUE])

    def log_config(self, config: OelConfig) -> None:
        """Logs the resolved configuration as parameters of the loop and as a file. Later changes become tags."""
        self.log_params(LOOP, flatten(config.model_dump(mode="json")))
        self.log_file(LOOP, self.run.path / CONFIG, "")

    def log_params(self, name: str, values: Mapping[str, Any]) -> None:
        """Logs parameters; a changed value of a logged parameter becomes a tag, since MLflow keeps the first value."""
        run_id = self.run_id(name)
        flat = {field: visible(str(value))[:MAX_VALUE] for field, value in values.items()}
        known = self.client.get_run(run_id).data.params
        new = [Param(field, value) for field, value in flat.items() if field not in known]
        changed = {field: value for field, value in flat.items() if known.get(field, value) != value}
        for first in range(0, len(new), MAX_PARAMS):
            self.client.log_batch(run_id, params=new[first : first + MAX_PARAMS])
        for field, value in changed.items():
            self.client.set_tag(run_id, f"oel.now.{field}", value)

    def log_metrics(self, name: str, rows: Iterable[tuple[str, float, int]]) -> None:
        """Logs (metric, value, step), without those already logged."""
        run_id = self.run_id(name)
        new = [row for row in rows if self._known(run_id, row[0]).get(row[2]) != row[1]]
        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for key, value, step in new]
        for first in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(run_id, metrics=metrics[first : first + MAX_METRICS])
        for key, value, step in new:
            self._known(run_id, key)[step] = value

    def _known(self, run_id: str, metric: str) -> dict[int, float]:
        """Step → logged value of a metric; cached."""
        if (run_id, metric) not in self._metrics:
            history = self.client.get_metric_history(run_id, metric)
            self._metrics[run_id, metric] = {entry.step: entry.value for entry in history}
        return self._metrics[run_id, metric]

    def is_logged(self, name: str, stage: str, digest: str) -> bool:
        """Whether `mark_logged` was called for this state of a stage."""
        return self.client.get_run(self.run_id(name)).data.tags.get(f"{LOGGED}.{stage}") == digest

    def mark_logged(self, name: str, stage: str, digest: str) -> None:
        """Records that a stage is completely tracked. Called last: after an earlier kill the stage is logged again."""
        self.client.set_tag(self.run_id(name), f"{LOGGED}.{stage}", digest)

    def log_file(self, name: str, path: Path, folder: str) -> None:
        """Copies a file or folder into the run's artifacts under `folder`."""
        copy = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        copy(self.run_id(name), str(path), folder or None)

    def log_text(self, name: str, text: str, file: str) -> None:
        """Writes a text artifact."""
        self.client.log_text(self.run_id(name), visible(text), file)

    def log_dataset(self, name: str, data: TrackedData) -> None:
        """Logs a dataset as an input of the run. Equal data of several runs are one dataset; idempotent."""
        dataset = Dataset(
            data.name, data.digest, data.source_type, json.dumps(data.source), SCHEMA, json.dumps(data.profile)
        )
        entry = DatasetInput(dataset, [InputTag("mlflow.data.context", data.context)])
        self.client.log_inputs(self.run_id(name), datasets=[entry])

    def log_trace(
        self, inputs: Any, outputs: Any, tags: Mapping[str, str], metadata: Mapping[str, str], at: float
    ) -> None:
        """Logs one answer of a chat model as a trace of the experiment. MLflow sends it in the background.

        Args:
            inputs: the request as OpenAI's API has it.
            outputs: the answer likewise.
            at: when it was asked, seconds since 1970.
        """
        if mlflow.get_tracking_uri() != self.settings.tracking_uri:
            mlflow.set_tracking_uri(self.settings.tracking_uri)
        span = mlflow.start_span_no_context(
            "answer",
            span_type=SpanType.CHAT_MODEL,
            inputs=inputs,
            tags=dict(tags),
            metadata=dict(metadata),
            experiment_id=self.experiment,
            start_time_ns=int(at * 1e9),
        )
        span.end(outputs=outputs)

    def traces(self, filters: str) -> Iterator[Mapping[str, Any]]:
        """`info` of the experiment's traces that meet MLflow's filter, the newest first."""
        token: str | None = None
        while True:
            page = self.client.search_traces(
                [self.experiment], filters, 200, ["timestamp_ms DESC"], page_token=token, include_spans=False
            )
            yield from (trace.info.to_dict() for trace in page)
            token = page.token
            if not token:
                return

    def delete_traces(self, ids: Sequence[str]) -> None:
        """Removes traces of the experiment."""
        for first in range(0, len(ids), MAX_TRACES):
            self.client.delete_traces(self.experiment, trace_ids=list(ids[first : first + MAX_TRACES]))

    def files(self, name: str, folder: str) -> list[str]:
        """The run's artifacts below a folder, those of its folders included."""
        found: list[str] = []
        for entry in self.client.list_artifacts(self.run_id(name), folder):
            found += self.files(name, entry.path) if entry.is_dir else [entry.path]
        return found

    def delete_file(self, name: str, path: str) -> None:
        """Removes an artifact of the run."""
        root = self.client.get_run(self.run_id(name)).info.artifact_uri
        get_artifact_repository(root, self.settings.tracking_uri).delete_artifacts(path)

    def register(self, name: str, checkpoint: Path, digest: str) -> str | None:
        """Registers a round's checkpoint as a model version with the alias `candidate`; once per digest.

        Its source is the copy in the run's artifacts if there is one, otherwise the checkpoint's path. Returns the
        version, or None if no registered model is configured.
        """
        model = self.settings.registered_model
        if model is None:
            return None
        run_id = self.run_id(name)
        self.ensure_model(model)
        versions = self.client.search_model_versions(f"name = '{model}' and run_id = '{run_id}'")
        version = next((found for found in versions if found.tags.get("digest") == digest), None)
        if version is None:
            copied = any(entry.path == checkpoint.name for entry in self.client.list_artifacts(run_id))
            root = self.client.get_run(run_id).info.artifact_uri
            source = f"{root}/{checkpoint.name}" if copied else checkpoint.resolve().as_uri()
            tags: Mapping[str, Any] = {"round": name, "digest": digest, "run": self.run.name}
            version = self.client.create_model_version(model, source, run_id, tags=dict(tags))
        versions = self.client.search_model_versions(f"name = '{model}' and tags.run = '{self.run.name}'")
        newest = max((int(found.tags.get("round", 0)) for found in versions), default=0)
        if int(name) >= newest:
            self.client.set_registered_model_alias(model, CANDIDATE, version.version)
        return str(version.version)

    def ensure_model(self, model: str) -> None:
        """Creates the registered model if it does not exist."""
        try:
            retried(lambda: self.client.create_registered_model(model))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def ensure_experiment(settings: TrackingSettings, client: Any) -> str:
    """The id of the experiment, created or restored if needed, with the shared view of its runs."""
    found = client.get_experiment_by_name(settings.experiment)
    if found is None:
        location = settings.artifact_location
        if location and "://" not in location:
            location = Path(location).as_uri()
        return str(client.create_experiment(settings.experiment, artifact_location=location, tags=KIND | view_tag()))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    for tag, value in view_tag().items():
        if found.tags.get(tag) != value:
            client.set_experiment_tag(found.experiment_id, tag, value)
    return str(found.experiment_id)


def connect(settings: TrackingSettings) -> tuple[Any, str]:
    """A client, and the id of the experiment; database and experiment are created if needed.

    MLflow creates the tables of a SQLite file without a lock, so two runs that start in a new root would both do so.

    Raises:
        ServiceError: the database is of another version of MLflow.
    """
    with ExitStack() as stack:
        if settings.tracking_uri.startswith(SQLITE):
            file = Path(settings.tracking_uri.removeprefix(SQLITE))
            stack.enter_context(exclusive_after_wait(file.with_name(f".{file.name}.lock"), pause_s=0.1))
        try:
            client: Any = RetryingClient(MlflowClient(settings.tracking_uri, settings.registry_uri))
            return client, retried(lambda: ensure_experiment(settings, client))
        except MlflowException as error:
            if OTHER_SCHEMA not in str(error):
                raise
            raise ServiceError(
                f"MLflow's database {without_secrets(settings.tracking_uri)} was made by another version of MLflow. "
                "Back it up, then `oel up` (or `mlflow db upgrade`) migrates an older one; a newer one needs the newer "
                "MLflow"
            ) from error


def experiment_of(settings: TrackingSettings) -> str:
    """The id of the experiment of resolved settings; created if it does not exist."""
    return connect(settings)[1]


def run_server(uri: str, options: Sequence[str]) -> None:
    """Migrates a database to this version of MLflow and runs `mlflow server` in this process until it ends.

    Args:
        uri: of a database; `mlflow db upgrade` creates the tables of an empty one.
        options: of `mlflow server`, which reads the others from its environment.
    """
    from mlflow.cli import cli
    from mlflow.db import upgrade

    upgrade.main([uri], standalone_mode=False)
    cli.main(["server", *options], prog_name="mlflow")


def mark_killed(settings: TrackingSettings, run: RunFolder) -> None:
    """Marks RUNNING MLflow runs of the folder as KILLED, for a process that is about to exit."""
    client = MlflowClient(settings.resolved(run.path.parent, run.name).tracking_uri)
    for run_id in tracked_run(run).runs.values():
        if client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, "KILLED")


@lru_cache(maxsize=8)
def _tracker(settings: str, path: Path) -> Tracker:
    return Tracker(TrackingSettings.model_validate_json(settings), RunFolder(path))


def tracker_of(settings: TrackingSettings, run: RunFolder) -> Tracker:
    """The process's tracker for a run folder; the first call sets the database up."""
    return _tracker(settings.resolved(run.path.parent, run.name).model_dump_json(), run.path)
