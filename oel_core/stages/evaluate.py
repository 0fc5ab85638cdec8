"""Evaluate: one measurement of a round, in a folder of its own under `evaluate/`.

`held_out` and `ood/<suite>` measure the model that the round leaves, without knowledge. `in_context` and `raw` measure
the model that the round started from, with the round's knowledge or with its raw episodes before it. Round 0 is the
base model. All rounds and arms play the same held-out episodes.
"""

from pathlib import Path

from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError
from oel_core.evaluation import Suite, make_suite, model_settings
from oel_core.evaluation.games import raw_knowledge
from oel_core.policies.base import Policy
from oel_core.rounds.context import (
    DEFAULT_CONTEXT,
    EPISODES,
    REPORT,
    StageContext,
    digest_after,
    load_trajectories,
    model_after,
)
from oel_core.rounds.knowledge import distilled_digest, load_distilled
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, stage_key
from oel_core.runs.jsonl import JsonlWriter, recover_jsonl
from oel_core.runs.manifest import Manifest
from oel_core.runs.progress import Progress
from oel_core.runs.round_start import parent_of
from oel_core.types import Split, Trajectory

GAMES = ("seed", "model", "environment", "play.history_turns", "evaluate.games.episodes", "evaluate.games.sampling")
RAW = (
    *GAMES,
    "collect",
    "extract.use_after",
    "extract.turns_shown",
    "knowledge.max_tokens",
    "knowledge.source.raw_max_tokens",
)
IN_CONTEXT = (*GAMES, "knowledge.selection", "knowledge.injection")


def own_parts(config: OelConfig) -> list[str]:
    """What measures the model that a round leaves, without knowledge."""
    return ["held_out", *(f"ood/{suite}" for suite in config.evaluate.ood)]


def parts(config: OelConfig, round_index: int) -> list[str]:
    """What is measured after a round, in order: first what still needs the model that the round started from."""
    arms = list(config.evaluate.games.arms) if round_index else []
    return [*arms, *own_parts(config)]


def stage_name(part: str) -> str:
    return f"evaluate/{part}"


def evaluate(
    config: OelConfig, run: RunFolder, round_index: int, part: str, context: StageContext = DEFAULT_CONTEXT
) -> Manifest:
    """Plays one part and leaves `episodes.jsonl` and `report.json`.

    Raises:
        ConfigError: the part, its suite or the suite's options do not exist.
        ArtifactError: what the part needs of the round is missing, or the stage was made with other settings.
    """
    if part not in parts(config, round_index):
        known = ", ".join(parts(config, round_index))
        raise ConfigError(f"round {round_index} has no evaluation '{part}': it has {known}")
    measured = parent_of(run, round_index) if part in ("in_context", "raw") else round_index
    inputs = {"policy": digest_after(config, run, measured), **_inputs(config, run, round_index, part)}
    key = stage_key(config, round_index, stage_name(part), _sections(part), inputs)

    def work(folder: Path) -> dict[str, float]:
        path = model_after(config, run, measured)
        if part.startswith("ood/"):
            name = part.removeprefix("ood/")
            suite = make_suite(name, config.evaluate.ood[name], config)
            policy = context.load(path, model_settings(suite, config.model))
        else:
            policy = context.load(path, config.model)
            suite = _games(config, run, round_index, part, policy)
        return run_suite(suite, policy, folder, context.on_progress)

    return run.perform(key, work)


def _sections(part: str) -> tuple[str, ...]:
    if part.startswith("ood/"):
        return (*GAMES, f"evaluate.{part.replace('/', '.')}")
    return {"raw": RAW, "in_context": IN_CONTEXT}.get(part, GAMES)


def _inputs(config: OelConfig, run: RunFolder, round_index: int, part: str) -> dict[str, str]:
    if part == "in_context":
        return {"knowledge": distilled_digest(config, run, round_index)}
    return {"collect": run.manifest(round_index, "collect").digest} if part == "raw" else {}


def _games(config: OelConfig, run: RunFolder, round_index: int, part: str, policy: Policy) -> Suite:
    options = {"arm": "plain" if part == "held_out" else part, "texts": _texts(config, run, round_index, part, policy)}
    return make_suite("games", options, config)


def _texts(config: OelConfig, run: RunFolder, round_index: int, part: str, policy: Policy) -> tuple[str, ...]:
    """What the arm puts before the model: one text a replica, from the same episodes in both arms.

    In context these are the files that are distilled, drawn as distillation draws them where it does so by weight.
    """
    if part == "in_context":
        return load_distilled(config, run, round_index).texts(config.evaluate.games.episodes, config.seed)
    if part != "raw":
        return ()
    episodes = load_trajectories(run, round_index, Split.EXTRACT)
    used = [[e for e in episodes if e.replica == replica] for replica in range(config.collect.replicas)]
    cap = config.raw_cap
    shown, count = config.extract.turns_shown, policy.count_tokens
    return tuple(raw_knowledge(own[: config.use_after], cap, count, shown) for own in used)


def run_suite(suite: Suite, policy: Policy, folder: Path, on_progress: Progress) -> dict[str, float]:
    """Leaves the suite's episodes and report in `folder`, goes on with those that lie there, and returns counts."""
    done = recover_jsonl(folder / EPISODES, Trajectory)
    count = len(done)
    with JsonlWriter(folder / EPISODES) as writer:

        def on_episode(episode: Trajectory) -> None:
            nonlocal count
            writer.append(episode)
            count += 1
            on_progress(count, suite.total)

        report = suite.run(policy, done=done, on_episode=on_episode)
    write_atomic(folder / REPORT, report.model_dump_json(indent=1).encode())
    return {"episodes": report.episodes, "passed": report.passed, "errors": report.errors}
