"""One model on one suite, with the report as an artifact."""

from enum import Enum
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.pages.measurement import measurement_markdown
from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError
from oel_core.evaluation import make_suite, model_settings, suite_names
from oel_core.models.checkpoints import resolve_model
from oel_core.models.threads import use_threads
from oel_core.policies import load_policy
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder
from oel_core.text.figures import percent
from oel_core.text.markdown import escaped
from oel_core.types import EvalReport
from tasks.tracking.client import CANDIDATE
from tasks.tracking.registry import CHAMPION, PREVIOUS, registry_of
from tasks.tracking.settings import load_settings

Suite = Enum("Suite", {name: name for name in suite_names()}, type=str)  # type: ignore[misc]
ALIASES = (CHAMPION, PREVIOUS, CANDIDATE)


@flow(name="evaluate-model", flow_run_name="{model}")
def evaluate_model(
    config: OelConfig, model: str, project: str, suite: Enum, episodes: int | None, root: Path
) -> EvalReport:
    """Plays the suite's held-out episodes with a model, given by its path or by an alias of the project."""
    name = str(suite.value)
    own = config.evaluate.ood.get(name, {})
    options: dict[str, Any] = {**own} if episodes is None else {**own, "episodes": episodes}
    path = model_path(config, model, project, root)
    resolve_model(path)
    made = make_suite(name, options, config)
    use_threads(config.model.model_copy(update={"path": path}))
    report = made.run(load_policy(path, model_settings(made, config.model)))
    create_markdown_artifact(
        measurement_markdown(model, name, path, report),
        key=f"evaluate-{name.replace('_', '-')}",
        description=f"{escaped(model)}: {percent(report.pass_rate)} of {report.episodes} episodes",
    )
    return report


def model_path(config: OelConfig, model: str, project: str, root: Path) -> str:
    """A model's path. Without a champion, the project's champion is the preset's model.

    Raises:
        ConfigError: the project has no such alias.
    """
    if model not in ALIASES:
        return model
    run = RunFolder(root / project)
    found = registry_of(load_settings(), run).aliased(model)
    if found is not None:
        return Round(config, run, found.round).model()
    if model == CHAMPION:
        return config.model.path
    raise ConfigError(f"project {project} has no {model} yet")
