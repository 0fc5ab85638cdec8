"""Plans the runs of a study: names, order and configurations."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from oel_core.config.overrides import Override, apply_overrides
from oel_core.config.run import OelConfig, load_config, parse_config
from oel_core.errors import ConfigError
from oel_core.preflight.check import check
from oel_core.rounds.context import CHECKPOINT
from oel_core.stages.accumulate import STAGE as ACCUMULATE
from oel_core.study.arms import ARMS, COMMON, REFERENCE, Arm, arms_with
from oel_core.types import Record

RUNS = "runs"
FOREIGN_MODEL = "foreign-model"
_OWN_ROUND = re.compile(r"round:(\d+)")


class StudyPlan(Record):
    """The parameters of a study."""

    preset: str
    config: OelConfig
    """The preset with its overrides."""
    seeds: tuple[int, ...] = Field(min_length=1)
    """Loop seeds."""
    arms: tuple[str, ...]
    """Names of `ARMS`; always includes the reference."""
    rounds: int = Field(ge=1)
    """Rounds of the reference; all other arms have one."""
    foreign: str | None = None
    """Model whose knowledge the arm `foreign` uses: a folder, a hub id, or `round:2`, the own model after round 2."""
    varied: tuple[str, ...] = ()
    """Further arms: the settings that each changes, as `varied_arm` reads them."""


@dataclass(frozen=True)
class Job:
    """One run of a study."""

    arm: str
    """Name of an arm, or `foreign-model`: the other model, which only collects and extracts."""
    seed: int
    config: OelConfig
    changed: tuple[str, ...]
    """Dotted paths of the settings that the arm changes."""
    donors: tuple[str, ...]
    """Names of earlier runs whose finished stages may be reused."""
    needs: str | None = None
    """Name of a run that must have finished before."""

    @property
    def name(self) -> str:
        """Name of its run folder."""
        return run_name(self.seed, self.arm)

    @property
    def title(self) -> str:
        return f"seed {self.seed}, {self.arm.replace('_', ' ')}"

    @property
    def rounds(self) -> range:
        """Rounds to run; round 0 evaluates the base model."""
        return range(0 if self.arm == REFERENCE else 1, self.config.rounds + 1)

    @property
    def knowledge_only(self) -> bool:
        """Whether the run ends with the knowledge files."""
        return self.arm == FOREIGN_MODEL


def run_name(seed: int, arm: str) -> str:
    """Name of the run folder of an arm."""
    return f"seed-{seed}-{arm}"


def make_plan(
    preset: str,
    overrides: Sequence[str] = (),
    *,
    seeds: int = 3,
    arms: Sequence[str] | None = None,
    rounds: int | None = None,
    foreign: str | None = None,
    vary: Sequence[str] = (),
) -> StudyPlan:
    """Builds and validates the plan of a study.

    Args:
        preset: name or YAML file, as for `load_config`.
        overrides: `section.field=value`, for all arms.
        seeds: number of loop seeds, starting at the preset's `seed`.
        arms: names of arms; None is all, without `foreign` where no foreign model is named.
        rounds: of the reference arm; None is the preset's number.
        foreign: see `StudyPlan.foreign`.
        vary: see `StudyPlan.varied`.

    Raises:
        ConfigError: an arm or a setting does not exist, or settings do not go together.
        ArtifactError, PolicyError: a model is missing.
    """
    config = load_config(preset, [*overrides, *([f"rounds={rounds}"] if rounds is not None else [])])
    if config.review.mode != "off":
        raise ConfigError("a study runs unattended: add --set review.mode=off")
    if not 1 <= seeds <= 1000:
        raise ConfigError(f"--seeds {seeds}: name how many, at least 1")
    plan = StudyPlan(
        preset=preset,
        config=config,
        seeds=tuple(range(config.seed, config.seed + seeds)),
        arms=(*_chosen(arms, foreign), *(name for name in arms_with(vary) if name not in ARMS)),
        rounds=config.rounds,
        foreign=foreign,
        varied=tuple(vary),
    )
    _check(plan)
    return plan


def _chosen(arms: Sequence[str] | None, foreign: str | None) -> tuple[str, ...]:
    wanted = list(ARMS) if arms is None else [REFERENCE, *arms]
    unknown = [name for name in wanted if name not in ARMS]
    if unknown:
        raise ConfigError(f"--arms: there is no arm '{unknown[0]}': there are {', '.join(ARMS)}")
    if arms is not None and "foreign" in arms and foreign is None:
        raise ConfigError("--arms foreign needs --foreign MODEL: a folder, a hub id, or round:N of this study's own")
    return tuple(name for name in ARMS if name in wanted and (name != "foreign" or foreign is not None))


def _check(plan: StudyPlan) -> None:
    """Validates every arm's configuration before the study starts."""
    round_index = own_round(plan.foreign)
    if round_index is not None and not 1 <= round_index <= plan.rounds:
        raise ConfigError(f"--foreign {plan.foreign}: the study has rounds 1 to {plan.rounds}")
    for job in jobs(plan, Path()):
        if job.seed == plan.seeds[0] and not (job.knowledge_only and round_index is not None):
            check(job.config)


def own_round(foreign: str | None) -> int | None:
    """The round number of `round:2`; None for any other model."""
    found = _OWN_ROUND.fullmatch(foreign or "")
    return int(found.group(1)) if found else None


def jobs(plan: StudyPlan, folder: Path) -> list[Job]:
    """The runs of the study in `folder`, in order of their dependencies."""
    return [job for seed in plan.seeds for job in _of_seed(plan, folder.resolve() / RUNS, seed)]


def _of_seed(plan: StudyPlan, runs: Path, seed: int) -> list[Job]:
    found: list[Job] = []
    known = arms_with(plan.varied)

    def add(arm: str, settings: Mapping[str, Any], needs: str | None = None) -> None:
        config = with_settings(plan.config, {"seed": seed, **settings}, f"arm {arm} of seed {seed}")
        changed = tuple(known[arm].settings) if arm in known else ("model.path",)
        found.append(Job(arm, seed, config, changed, tuple(job.name for job in found), needs))

    for name in plan.arms:
        settings = _settings(known[name], plan.rounds)
        if name != "foreign":
            add(name, settings)
            continue
        own = run_name(seed, REFERENCE) if own_round(plan.foreign) is not None else None
        add(FOREIGN_MODEL, _foreign_model(plan, runs, seed), own)
        other = run_name(seed, FOREIGN_MODEL)
        add(name, {**settings, "knowledge.source.folder": str(runs / other / "round_01" / ACCUMULATE)}, other)
    return found


def _settings(arm: Arm, rounds: int) -> dict[str, Any]:
    reference = arm.name == REFERENCE
    measured = {"rounds": rounds if reference else 1, "evaluate.games.arms": ["in_context"] if arm.in_context else []}
    return {**COMMON, **measured, **arm.settings}


def _foreign_model(plan: StudyPlan, runs: Path, seed: int) -> dict[str, Any]:
    """Settings of the foreign model's run: same boards, own episodes, no prompts for distillation."""
    round_index, path = own_round(plan.foreign), plan.foreign
    if round_index is not None:
        path = str(runs / run_name(seed, REFERENCE) / f"round_{round_index:02d}" / "distill" / CHECKPOINT)
    one = {"rounds": 1, "distill.steps": 1, "distill.episodes_per_step": 1, "knowledge.selection.use": "all"}
    return {**COMMON, **one, "model.path": path}


def with_settings(config: OelConfig, settings: Mapping[str, Any], source: str) -> OelConfig:
    """The configuration with some fields replaced; ConfigError names `source` where they do not validate."""
    values = config.model_dump(mode="json")
    apply_overrides(values, [Override(tuple(path.split(".")), value, source) for path, value in settings.items()])
    return parse_config(values, source)
