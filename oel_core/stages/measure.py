"""Measure: evaluates any model on one suite, outside a run, in its own folder.

The folder is a stage folder: results are appended as they arrive, a killed evaluation resumes, a finished one is read
again, and a folder of another model, suite or setting is rejected.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oel_core.config.run import OelConfig
from oel_core.evaluation import make_suite, model_settings
from oel_core.models.checkpoints import model_digest, resolve_model
from oel_core.models.threads import use_threads
from oel_core.rounds.context import DEFAULT_CONTEXT, REPORT, StageContext
from oel_core.runs.folder import RunFolder, stage_key
from oel_core.runs.locks import exclusive
from oel_core.runs.manifest import digest_bytes, flatten, read_record
from oel_core.stages.evaluate import run_suite
from oel_core.types import EvalReport

SECTIONS = ("seed", "model", "environment", "play", "knowledge.injection", "evaluate.games")


def measure(
    folder: Path,
    config: OelConfig,
    model: str,
    suite: str,
    options: Mapping[str, Any],
    *,
    knowledge: str | None = None,
    context: StageContext = DEFAULT_CONTEXT,
) -> EvalReport:
    """Leaves `episodes.jsonl` and `report.json` in `folder`.

    Args:
        model: checkpoint folder, hub id, or the name of an embedded or fetched model.
        options: the suite's own.
        knowledge: text added to the prompts (suite games).

    Raises:
        ConfigError: the suite or its options do not exist.
        ArtifactError: the folder has results of another evaluation.
        PolicyError: there is no such model.
        BusyError: another process uses this folder.
    """
    folder = folder.resolve()
    wanted = {**options} if knowledge is None else {**options, "arm": "in_context", "texts": (knowledge,)}
    made = make_suite(suite, wanted, config)
    place = resolve_model(model)
    inputs = {"policy": place if isinstance(place, str) else model_digest(model)}
    if knowledge is not None:
        inputs["knowledge"] = digest_bytes(knowledge.encode())
    key = stage_key(config, 0, folder.name, SECTIONS, inputs)
    chosen = {"suite": suite, **flatten({"option": dict(options)})}
    key = key.model_copy(update={"stage": folder.name, "config": {**key.config, **chosen}})

    def work(partial: Path) -> dict[str, float]:
        use_threads(config.model.model_copy(update={"path": model}))
        policy = context.policy(model, model_settings(made, config.model), config.runner)
        return run_suite(made, policy, partial, context.on_progress)

    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.with_name(f".{folder.name}.lock")):
        RunFolder(folder.parent).perform(key, work)
    return read_record(folder / REPORT, EvalReport)
