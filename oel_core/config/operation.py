"""Settings of recurring operation: when a round is worth starting, what recorded sessions are measured on, and when a
round's model may become the champion."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from oel_core.config.names import ScorerName
from oel_core.config.sampling import Sampling
from oel_core.config.section import Count, Options, Section, Share

MOST_RESERVED = 0.5
"""Share of an inbox that is not trained on, at most."""
Tolerance = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]


class SynthesisConfig(Section):
    """Prompts that the round's start model writes from knowledge, for a bundle without prompts."""

    prompts: Count = 256
    """How many are asked for; answers that are no usable prompt are left out and counted."""
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=256)


class ExperienceConfig(Section):
    """Where a round's experience comes from."""

    inbox: str | None = None
    """Folder of JSONL trajectories from the deployment, appended to or added; null: every round plays its own."""
    min_episodes: int = Field(default=64, ge=2)
    """New episodes in the inbox that make a round worth starting."""
    extract_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the inbox's episodes that are read for knowledge; the others' prompts are distilled."""
    bundle: str | None = None
    """File of `oel bundle make` with knowledge and prompts, in place of an environment; null: no bundle."""
    bundle_digest: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """What the bundle's digest must be, as `oel bundle make` printed it; null: any."""
    synthesis: SynthesisConfig = SynthesisConfig()


class SequentialConfig(Section):
    """Settings of the test `sequential`, which plays held-out episodes of the round's own until they decide."""

    error_budget: Probability = 0.05
    """Expected false promotions over the project's life, as a share of expected promotions."""
    level: Probability = 0.05
    """Probability at most that a decision lets one other condition through that does not hold."""
    block_episodes: Count = 32
    """Episodes that each model plays between two looks at the evidence."""
    most_episodes: Count = 512
    """Episodes of each suite that each model plays at most."""


class CasesConfig(Section):
    """Which recorded sessions are kept for measuring, and what an answer to one of their requests is worth."""

    scorer: ScorerName | None = None
    """What says whether an answer is right; null scores nothing, and the gate then promotes nothing."""
    options: Options = Field(default_factory=dict)
    """Options of that scorer."""
    held_out: float = Field(default=0.2, gt=0, lt=0.5)
    """Share of an inbox's new sessions that are only measured on: whole people, near-duplicates together."""
    validation: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of them that scores knowledge files (`knowledge.selection`) and judges."""
    similar: Share = 0.7
    """Jaccard similarity of their word triples from which two sessions are near-duplicates."""
    judge_kappa: float = Field(default=0.4, ge=0, le=1)
    """Least agreement of a judge with people's verdicts on recorded answers (Cohen's kappa) for its word to count."""
    judge_rated: Count = 20
    """Recorded answers with a verdict, at least, on which that agreement is measured."""
    episodes: Count = 128
    """Most cases that a round's models answer, one a session; new ones first, then those of the rounds before."""
    arms: tuple[Literal["in_context", "raw"], ...] = ("in_context", "raw")
    """What is measured besides the round's start model and its result."""
    sampling: Sampling = Sampling(top_p=0.8, top_k=20)

    @model_validator(mode="after")
    def _something_is_trained_on(self) -> Self:
        if self.held_out + self.validation > MOST_RESERVED:
            raise ValueError(f"held_out and validation add up to more than {MOST_RESERVED}: most has to be trained on")
        return self


class GateConfig(Section):
    """When a candidate may replace the champion. Rates are shares of 1."""

    test: Literal["bootstrap", "sequential"] = "bootstrap"
    """`bootstrap` compares the round's evaluations; `sequential` plays new episodes and keeps an error budget."""
    sequential: SequentialConfig = SequentialConfig()
    margin: float = Field(default=0.0, ge=0, lt=1)
    """The pass rate must be higher by more than this."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Share of paired bootstrap draws that must show it (`bootstrap`)."""
    min_episodes: int = Field(default=32, ge=1)
    """Held-out episodes that both played, at least (`bootstrap`): a bootstrap over very few is sure of anything."""
    ood_tolerance: Tolerance = 0.05
    """How far an out-of-distribution pass rate may be below the better of champion and base model."""
    ood_tolerances: dict[str, Tolerance] = Field(default_factory=dict)
    """The same for one suite: name → tolerance."""
    response_ratio: tuple[float, float] = (0.33, 1.5)
    """Bounds of mean response tokens, as multiples of the champion's."""
    truncation_rise: float = Field(default=0.05, ge=0, le=1)
    """How far the share of responses that hit the token cap may be above the champion's."""
    refused_knowledge: Literal["drop", "keep"] = "drop"
    """With knowledge.carry_over: whether the knowledge of a refused round goes on, or the champion's does."""

    def tolerance(self, suite: str) -> float:
        """How far the pass rate of this out-of-distribution suite may be below."""
        return self.ood_tolerances.get(suite, self.ood_tolerance)

    @field_validator("response_ratio")
    @classmethod
    def _in_order(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= bounds[0] <= bounds[1]:
            raise ValueError("name the lower bound first, then the upper one, neither below 0")
        return bounds
