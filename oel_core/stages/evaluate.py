"""Evaluate: one part of a round's evaluation, in its own folder under `evaluate/`.

`held_out` and `ood/<suite>` evaluate the round's new model without knowledge. `in_context` and `raw` evaluate the
round's start model with the round's knowledge or its raw episodes in the prompt. Round 0 is the base model. All rounds
and arms play the same held-out episodes. Cases are the round's own, so there `start` evaluates its start model too.
"""

from pathlib import Path
from typing import Any

from oel_core.config.run import OelConfig
from oel_core.errors import ArtifactError, ConfigError
from oel_core.evaluation import Suite, make_suite, model_settings
from oel_core.evaluation.games import raw_knowledge
from oel_core.policies.base import Policy
from oel_core.rounds.context import DEFAULT_CONTEXT, EPISODES, REPORT, StageContext
from oel_core.rounds.round import Round
from oel_core.rounds.stage_folder import StageFolder
from oel_core.runs.files import write_atomic
from oel_core.runs.jsonl import JsonlWriter, recover_jsonl
from oel_core.runs.manifest import Manifest, digest_file
from oel_core.runs.progress import Progress
from oel_core.types import Trajectory

GAMES = (
    "seed",
    "model",
    "environment",
    "play.history_turns",
    "evaluate.games.episodes",
    "evaluate.games.split",
    "evaluate.games.sampling",
)
SCORING = ("seed", "model", "evaluate.cases.scorer", "evaluate.cases.options", "evaluate.cases.sampling")
CASES = (*SCORING, "evaluate.cases.episodes", "evaluate.cases.judge_kappa", "evaluate.cases.judge_rated")
RAW = (
    "collect",
    "extract.use_after",
    "extract.turns_shown",
    "knowledge.max_tokens",
    "knowledge.source.raw_max_tokens",
)
IN_CONTEXT = ("knowledge.selection", "knowledge.injection")
START = "start"
BEFORE = (START, "in_context", "raw")
"""Parts that evaluate the round's start model."""


def own_parts(config: OelConfig) -> list[str]:
    """The parts that evaluate the round's new model, without knowledge. A bundle's rounds have no environment."""
    held_out = ["held_out"] if config.experience.bundle is None else []
    return [*held_out, *(f"ood/{suite}" for suite in config.evaluate.ood)]


def parts(config: OelConfig, round_index: int) -> list[str]:
    """The parts of a round's evaluation, in order: those with the start model first."""
    if not round_index or config.experience.bundle is not None:
        return own_parts(config)
    arms = [START, *config.evaluate.cases.arms] if _on_cases(config) else list(config.evaluate.games.arms)
    return [*arms, *own_parts(config)]


def _on_cases(config: OelConfig) -> bool:
    return config.evaluate.held_out == "cases"


def measurement(candidate: Round, number: int, part: str) -> StageFolder:
    """The evaluation stage of round `number`'s model on the candidate's episodes.

    Raises:
        ArtifactError: these are cases of the candidate's round, on which only its start model was also evaluated.
    """
    if part != "held_out" or not _on_cases(candidate.config) or number == candidate.number:
        return candidate.at(number).stage(stage_name(part))
    if number != candidate.parent.number:
        raise ArtifactError(
            f"round {number} was not measured on the cases of round {candidate.number}, which started from round "
            f"{candidate.parent.number}: only these two can be compared"
        )
    return candidate.stage(stage_name(START))


def stage_name(part: str) -> str:
    return f"evaluate/{part}"


def evaluate(round: Round, part: str, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Plays the episodes of one part and writes `episodes.jsonl` and `report.json`.

    Raises:
        ConfigError: the part, its suite or the suite's options do not exist.
        ArtifactError: an input of the part is missing, or the stage was made with other settings.
    """
    config, known = round.config, parts(round.config, round.number)
    if part not in known:
        raise ConfigError(f"round {round.number} has no evaluation '{part}': it has {', '.join(known)}")
    measured = round.parent if part in BEFORE else round

    def work(folder: Path) -> dict[str, float]:
        path = measured.model()
        if part.startswith("ood/"):
            name = part.removeprefix("ood/")
            suite = make_suite(name, config.evaluate.ood[name], config)
            policy = context.policy(path, model_settings(suite, config.model), config.runner)
        else:
            policy = context.policy(path, config.model, config.runner)
            suite = _held_out(round, part, policy)
        return run_suite(suite, policy, folder, context.on_progress)

    inputs = {"policy": measured.model_digest(), **_inputs(round, part)}
    return round.perform(stage_name(part), _sections(config, part), inputs, work)


def _sections(config: OelConfig, part: str) -> tuple[str, ...]:
    if part.startswith("ood/"):
        name = part.removeprefix("ood/")
        cases = config.evaluate.ood[name].get("suite", name) == "cases"
        return (*GAMES, f"evaluate.{part.replace('/', '.')}", *(("evaluate.cases",) if cases else ()))
    more = {"raw": RAW, "in_context": IN_CONTEXT}.get(part, ())
    return (*CASES, *more) if _on_cases(config) else (*GAMES, *more)


def _inputs(round: Round, part: str) -> dict[str, str]:
    found = {}
    if _on_cases(round.config) and not part.startswith("ood/"):
        found["cases"] = digest_file(round.cases())
    if part == "in_context":
        found["knowledge"] = round.distilled_stage().digest()
    return found | ({"collect": round.stage("collect").digest()} if part == "raw" else {})


def _held_out(round: Round, part: str, policy: Policy) -> Suite:
    """The suite on which every model of the round is evaluated, in the part's arm."""
    arm = "plain" if part in ("held_out", START) else part
    options: dict[str, Any] = {"arm": arm, "texts": _texts(round, part, policy)}
    if _on_cases(round.config):
        options["file"] = str(round.cases())
    return make_suite(round.config.evaluate.held_out, options, round.config)


def _texts(round: Round, part: str, policy: Policy) -> tuple[str, ...]:
    """The texts in the arm's prompts: one per replica, from the same episodes in both arms.

    For `in_context` these are the distilled files, sampled with the same weights as in distillation.
    """
    config = round.config
    if part == "in_context":
        suite = config.evaluate.cases if _on_cases(config) else config.evaluate.games
        return round.knowledge().texts(suite.episodes, config.seed)
    if part != "raw":
        return ()
    cap, shown, count = config.raw_cap, config.extract.turns_shown, policy.count_tokens
    episodes = round.extraction_episodes().values()
    return tuple(raw_knowledge(own[: config.use_after], cap, count, shown) for own in episodes)


def run_suite(suite: Suite, policy: Policy, folder: Path, on_progress: Progress) -> dict[str, float]:
    """Runs a suite, resuming from the episodes in `folder`; writes episodes and report and returns counts."""
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
