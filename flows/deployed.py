"""The deployed flows; their parameters are set by a schedule, the Prefect UI or `oel trigger`.

`deployments/prefect.yaml` registers them. The UI's form shows the text of `Args:` beside each field. The flows do not
name their flow runs: Prefect would replace the name set at creation (`flows/run_names.py`) at the start.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from uuid import UUID

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import Abort
from prefect.runtime import flow_run
from pydantic import Field

from flows.collect_only import collect_only
from flows.evaluate_model import Suite, evaluate_model
from flows.learning_loop import learning_loop
from flows.next_round import next_round
from flows.pages.outcome import outcome_details, outcome_line, outcome_state
from flows.pages.round import outcome_key, outcome_markdown
from flows.parameters import (
    Preset,
    WhenBusy,
    lease_timeout_s,
    requested_settings,
    resolve,
    resolve_for,
    run_root,
    trigger_id,
)
from flows.recovery.outages import through_outages
from flows.recovery.stopping import under_worker
from flows.services.links import report_place
from oel_core.projects.triggers import Trigger, finished_trigger
from oel_core.rounds.summary import RoundSummary
from oel_core.runs.folder import RunFolder
from oel_core.text.markdown import escaped
from oel_core.types import EvalReport
from tasks.tracking.settings import load_settings

QUICKSTART = Preset("quickstart")


@flow(name="learning-loop")
def deployed_loop(
    name: str = "quickstart",
    preset: Preset = QUICKSTART,
    preset_file: str | None = None,
    overrides: list[str] = [],  # noqa: B006 - the form shows it, nobody changes it
    when_busy: WhenBusy = WhenBusy.refuse,
) -> list[RoundSummary]:
    """All rounds of a preset, one after the other, each from the one before it, without a gate.

    Args:
        name: Name of the run; a run of that name is resumed.
        preset: Configuration to start from.
        preset_file: A YAML file on the worker instead of the preset.
        overrides: Settings to change, one per line, like distill.steps=5.
        when_busy: If another process works on the same run: refuse, or queue until it has finished.
    """
    config, root = resolve(preset, preset_file, overrides), run_root()
    with under_worker(root, name):
        return through_outages(lambda: learning_loop(config, name, root, wait_s=lease_timeout_s(when_busy)))


@flow(name="next-round")
def deployed_next_round(
    project: str = "quickstart",
    preset: Preset | None = None,
    preset_file: str | None = None,
    overrides: list[str] = [],  # noqa: B006
    when_busy: WhenBusy = WhenBusy.refuse,
    trigger: str | None = None,
) -> State[None]:
    """One round of a project: from the champion's model, if there is enough new experience, through the gate.

    Args:
        project: Name of the project, a run folder under the run root.
        preset: Replaces the project's configuration permanently. Empty: unchanged; quickstart for a new project.
        preset_file: A YAML file on the worker instead of a preset.
        overrides: Permanent changes of the project's settings, one per line, like gate.margin=0.02.
        when_busy: If another round of the project is running: refuse, or queue until it has finished.
        trigger: Id of this request; the same id again gives the same outcome. Empty: the flow run's own.
    """
    requested, root = requested_settings(preset, preset_file, overrides), run_root()
    run = RunFolder(root / project)
    with under_worker(root, project):
        id, wait_s = trigger_id(trigger), lease_timeout_s(when_busy)
        found = through_outages(
            lambda: _outcome_of(run, id, lambda: next_round(requested, project, id, root, wait_s=wait_s))
        )
        page = through_outages(lambda: outcome_markdown(run, found, report_place(run, load_settings())))
        line = escaped(outcome_line(found))
        through_outages(lambda: create_markdown_artifact(page, key=outcome_key(run), description=line))
    return ended_in(outcome_state(found, outcome_details(run, found)))


def ended_in(state: State[None]) -> State[None]:
    """The state that a flow returns. A state of type cancelled is set here and raised as Prefect's own signal.

    If it were returned, Prefect would raise it as an exception, and the worker would report a crashed process.
    """
    if not state.is_cancelled():
        return state
    through_outages(lambda: _set(state))
    signal = Abort(state.message)
    signal.state = state  # type: ignore[attr-defined]  # the engine takes it as what has been set
    raise signal


def _set(state: State[None]) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(str(flow_run.id)), state, force=True)


def _outcome_of(run: RunFolder, id: str, work: Callable[[], Trigger]) -> Trigger:
    """The result of the work; if it raised and its round has ended because of that, the round's outcome."""
    try:
        return work()
    except Exception:
        found = finished_trigger(run, id)
        if found is None:
            raise
        return found


@flow(name="collect-only")
def deployed_collect_only(
    project: str = "quickstart",
    inbox: str = "inbox",
    episodes: Annotated[int, Field(ge=1)] = 64,
    preset: Preset | None = None,
    preset_file: str | None = None,
    overrides: list[str] = [],  # noqa: B006
    trigger: str | None = None,
) -> Path:
    """Plays episodes with the project's champion and writes them to an inbox, as a deployment would.

    Args:
        project: Name of the project whose champion plays.
        inbox: Folder for the episodes; relative to the run root.
        episodes: Number of episodes.
        preset: Replaces the project's configuration for this run. Empty: unchanged; quickstart for a new project.
        preset_file: A YAML file on the worker instead of a preset.
        overrides: Changes of settings for this run, one per line, like play.sampling.temperature=1.0.
        trigger: Id of this request; a repeated id plays nothing new. Empty: the flow run's own.
    """
    root = run_root()
    config = resolve_for(root, project, preset, preset_file, overrides)
    with under_worker(root, project):
        id = trigger_id(trigger)
        return through_outages(lambda: collect_only(config, project, root / inbox, episodes, id, root))


@flow(name="evaluate-model")
def deployed_evaluate_model(
    model: str = "champion",
    project: str = "quickstart",
    suite: Suite = Suite("games"),  # noqa: B008 - a member of an Enum
    episodes: Annotated[int, Field(ge=1)] | None = None,
    preset: Preset | None = None,
    preset_file: str | None = None,
    overrides: list[str] = [],  # noqa: B006
) -> EvalReport:
    """Evaluates a model on held-out episodes.

    Args:
        model: champion, previous or candidate of the project; or a folder, a hub id, or seed-lm.
        project: Name of the project whose registry is used.
        suite: Evaluation suite.
        episodes: Held-out episodes; empty is the suite's own number.
        preset: Environment and sampling. Empty: the project's own; quickstart for a new project.
        preset_file: A YAML file on the worker instead of a preset.
        overrides: Changes of settings for this run, one per line.
    """
    root = run_root()
    config = resolve_for(root, project, preset, preset_file, overrides)
    with under_worker(root, project):
        return through_outages(lambda: evaluate_model(config, model, project, suite, episodes, root))
