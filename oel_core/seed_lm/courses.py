"""Training courses of seed models: skills, their mixture by stage, and the phrases that are single tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from oel_core.errors import ConfigError
from oel_core.seed_lm import corpus, relics_corpus, relics_words
from oel_core.seed_lm.corpus import Skill


@dataclass(frozen=True)
class Stage:
    """A share of the steps with its mixture of skills."""

    share: float
    weights: dict[str, float]


@dataclass(frozen=True)
class Size:
    """Of the model; its head count is fixed. The default has about a million parameters."""

    width: int = 128
    layers: int = 5


@dataclass(frozen=True)
class Course:
    """A training corpus. Training that continues from earlier weights uses its last stage only."""

    skills: Mapping[str, Skill]
    stages: tuple[Stage, ...]
    phrases: tuple[str, ...] = ()
    """Single tokens in addition to the lake's."""
    size: Size = Size()
    prompt_weight: float = 0.03
    """Loss weight of prompt tokens; response tokens weigh 1."""
    analogues: Mapping[str, str] = field(default_factory=dict)
    """New phrase → older phrase whose embedding initialises it, if training continues from earlier weights."""


LAKE = Course(
    skills=corpus.SKILLS,
    stages=(
        Stage(0.2, {"act_with_knowledge": 0.65, "act_without_knowledge": 0.35}),
        Stage(0.8, {"act_with_knowledge": 0.43, "act_without_knowledge": 0.42, "extract": 0.15}),
    ),
)
TWO_WORLDS = Course(
    skills={**corpus.SKILLS, **relics_corpus.SKILLS},
    stages=(
        Stage(
            1.0,
            {
                "act_with_knowledge": 0.22,
                "act_without_knowledge": 0.20,
                "extract": 0.08,
                "relics_with_knowledge": 0.22,
                "relics_without_knowledge": 0.18,
                "relics_extract": 0.10,
            },
        ),
    ),
    phrases=tuple(relics_words.phrases()),
    analogues=relics_words.ANALOGUES,
)
COURSES = {"lake": LAKE, "two-worlds": TWO_WORLDS}


def get_course(name: str) -> Course:
    """The course of that name. ConfigError lists the known names."""
    if name not in COURSES:
        raise ConfigError(f"unknown course '{name}': known are {', '.join(COURSES)}")
    return COURSES[name]
