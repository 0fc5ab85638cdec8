"""The arms of a study as data: the settings each changes, and the comparisons; and arms of settings to be compared.

Source of the comparisons: arXiv 2603.16856 (raw episodes, foreign knowledge, rounds), arXiv 2602.12275 (on-policy or
off-policy, supervised fine-tuning) and arXiv 2606.04703 (global or step-wise injection).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from oel_core.config.fields import shown
from oel_core.config.overrides import parse_override
from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError

REFERENCE = "own"
HELD_OUT, IN_CONTEXT = "held_out", "in_context"


@dataclass(frozen=True)
class Arm:
    """One arm. Its settings override those of `COMMON`, which override the preset's."""

    name: str
    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted path of a field → value."""
    in_context: bool = True
    """Whether the in-context pass rate is evaluated too."""


COMMON: Final[Mapping[str, Any]] = {
    "knowledge.source.use": "extracted",
    "knowledge.source.folder": None,
    "knowledge.injection.mode": "global",
    "knowledge.saturation.every": None,
}

ARMS: Final[Mapping[str, Arm]] = {
    arm.name: arm
    for arm in (
        Arm(REFERENCE, "the preset: own extracted knowledge, global"),
        Arm(
            "raw",
            "raw episodes instead of knowledge",
            {"knowledge.source.use": "raw", "knowledge.hygiene.policy": "off"},
        ),
        Arm("foreign", "knowledge that another model extracted", {"knowledge.source.use": "folder"}),
        Arm(
            "on_policy",
            "the student answers, reverse KL",
            {"distill.regime": "on_policy", "distill.objective": "reverse_kl_tail"},
            in_context=False,
        ),
        Arm(
            "teacher_rollouts",
            "the teacher answers, forward KL",
            {"distill.regime": "teacher_rollouts", "distill.objective": "forward_kl"},
            in_context=False,
        ),
        Arm(
            "mixture",
            "teacher and student answer half of the samples each",
            {"distill.regime": "mixture", "distill.teacher_share": 0.5, "distill.teacher_share_end": None},
            in_context=False,
        ),
        Arm(
            "sft",
            "supervised fine-tuning on passed episodes",
            {
                "distill.regime": "sft",
                "distill.teacher": "frozen",
                "distill.retention.in_context_weight": 0,
                "distill.retention.counterfactual_weight": 0,
                "distill.retention.top_turns": None,
            },
            in_context=False,
        ),
        Arm(
            "step_wise",
            "at each turn only the items that have to do with it",
            {"knowledge.injection.mode": "step_wise"},
        ),
    )
}


_NEXT_SETTING = re.compile(r"\s+(?=[a-z_0-9.]+=)")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9.-]+")


def varied_arm(text: str) -> Arm:
    """The arm of `--vary`: the preset with some settings changed, `section.field=value`, separated by spaces.

    Its name, of which its run folder's is made, is made of the fields' last parts and the values.

    Raises:
        ConfigError: not of that form.
    """
    settings = _NEXT_SETTING.split(text.strip())
    overrides = [parse_override(OelConfig, setting, "--vary") for setting in settings]
    values = [setting.partition("=")[2] for setting in settings]
    short = " ".join(f"{one.place[-1]}={value}" for one, value in zip(overrides, values, strict=True))
    return Arm(
        _NOT_IN_A_NAME.sub("_", short.lower()).strip("_."),
        " ".join(settings),
        {".".join(one.place): one.value for one in overrides},
        in_context=False,
    )


def arms_with(varied: Iterable[str]) -> dict[str, Arm]:
    """All arms by name: `ARMS`, and one for each of the texts of `--vary`.

    Raises:
        ConfigError: a text is malformed, or two arms get the same name.
    """
    found = dict(ARMS)
    for text in varied:
        arm = varied_arm(text)
        if arm.name in found:
            raise ConfigError(f"--vary {shown(text)}: there is an arm '{arm.name}' already: leave one of them out")
        found[arm.name] = arm
    return found


@dataclass(frozen=True)
class Place:
    """The source of a row's metrics: a part of a round's evaluation in an arm's run."""

    label: str
    arm: str
    round: int = 1
    part: str = HELD_OUT


@dataclass(frozen=True)
class Comparison:
    """Rows of one table or plot."""

    name: str
    title: str
    places: tuple[Place, ...]


COMPARISONS: Final = (
    Comparison(
        "knowledge",
        "Nothing, raw episodes, extracted knowledge; in context and consolidated",
        (
            Place("nothing", REFERENCE, 0),
            Place("raw episodes, in context", "raw", 1, IN_CONTEXT),
            Place("raw episodes, consolidated", "raw"),
            Place("extracted knowledge, in context", REFERENCE, 1, IN_CONTEXT),
            Place("extracted knowledge, consolidated", REFERENCE),
        ),
    ),
    Comparison(
        "source",
        "Own or foreign knowledge",
        (
            Place("own, in context", REFERENCE, 1, IN_CONTEXT),
            Place("own, consolidated", REFERENCE),
            Place("foreign, in context", "foreign", 1, IN_CONTEXT),
            Place("foreign, consolidated", "foreign"),
        ),
    ),
    Comparison(
        "regime",
        "Who writes the responses that are learnt from",
        (
            Place("the preset's", REFERENCE),
            Place("on-policy, reverse KL", "on_policy"),
            Place("teacher rollouts", "teacher_rollouts"),
            Place("mixture", "mixture"),
            Place("SFT on passed episodes", "sft"),
        ),
    ),
    Comparison(
        "injection",
        "How prompts carry knowledge",
        (
            Place("global, in context", REFERENCE, 1, IN_CONTEXT),
            Place("global, consolidated", REFERENCE),
            Place("step-wise, in context", "step_wise", 1, IN_CONTEXT),
            Place("step-wise, consolidated", "step_wise"),
        ),
    ),
)
"""All after the first round, from the same start model, on the same held-out boards."""


def comparisons_with(varied: Iterable[str]) -> tuple[Comparison, ...]:
    """`COMPARISONS`, and one of the settings of `--vary` with the preset's."""
    arms = [varied_arm(text) for text in varied]
    places = (Place("the preset's", REFERENCE), *(Place(arm.title, arm.name) for arm in arms))
    return (*COMPARISONS, Comparison("settings", "Other settings", places)) if arms else COMPARISONS
