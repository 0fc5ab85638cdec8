"""Settings of recurring operation: the start of a round, evaluation on recorded sessions, and the promotion gate."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from oel_core.config.names import ScorerName
from oel_core.config.sampling import Sampling
from oel_core.config.section import Count, Options, Section, Share

MAX_RESERVED = 0.5
"""Maximum share of an inbox that is held out of training."""
Tolerance = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]


class SynthesisConfig(Section):
    """Prompts that the round's start model generates from knowledge, for a bundle without prompts."""

    prompts: Count = 256
    """Number of prompts to generate; unusable ones are left out and counted."""
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=256)


DistilledTurns = Literal["all", "rated"]


class ExperienceConfig(Section):
    """The source of a round's experience."""

    inbox: str | None = None
    """Folder of JSONL trajectories from the deployment, appended to or added; null: every round plays its own."""
    min_episodes: int = Field(default=64, ge=2)
    """Minimum number of new episodes in the inbox for a round to start."""
    extract_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the inbox's episodes used for extraction."""
    rated_weight: float = Field(default=2.0, ge=1)
    """Weight of an episode with a rating, or with a user's message that rejects an answer, when episodes for extraction
    are drawn; those with a correction, an expected answer or a comment have its square, those without any 1."""
    distill_sessions: Literal["others", "all"] = "others"
    """Inbox episodes whose prompts are distilled: those that nothing is extracted from, or all. With all and
    `knowledge.injection.mode: step_wise` the teacher reads what people said about the very request that it answers."""
    distill_turns: DistilledTurns = "all"
    """Prompts that are distilled; `rated`: those of answers with feedback, and all of an episode that was rated as a
    whole. Episodes that were played have no such feedback."""
    bundle: str | None = None
    """File of `oel bundle make` with knowledge and prompts, in place of an environment; null: no bundle."""
    bundle_digest: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Expected digest of the bundle, as printed by `oel bundle make`; null: any."""
    synthesis: SynthesisConfig = SynthesisConfig()

    @model_validator(mode="after")
    def _rated_prompts_are_left(self) -> Self:
        if self.distill_turns == "rated" and self.distill_sessions != "all":
            raise ValueError(
                "distill_turns is rated, but distill_sessions is others: knowledge is extracted from the episodes with "
                "feedback, so set distill_sessions to all"
            )
        return self


class SequentialConfig(Section):
    """Settings of the test `sequential`, which plays new held-out episodes until it can decide."""

    error_budget: Probability = 0.05
    """Bound of the expected false promotions over the project's life, as a share of the expected promotions."""
    level: Probability = 0.05
    """Significance level of every other condition."""
    block_episodes: Count = 32
    """Episodes per model between two evaluations of the evidence."""
    most_episodes: Count = 512
    """Maximum episodes per suite and model."""


class CasesConfig(Section):
    """Held-out recorded sessions and the scoring of answers to their requests."""

    scorer: ScorerName | None = None
    """Scorer of answers; null: answers are not scored, and the gate promotes nothing."""
    options: Options = Field(default_factory=dict)
    """Options of that scorer."""
    held_out: float = Field(default=0.2, gt=0, lt=0.5)
    """Share of an inbox's new sessions for evaluation only; a user's sessions and near-duplicates stay together."""
    validation: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of new sessions used to score knowledge files (`knowledge.selection`) and judges."""
    similar: Share = 0.7
    """Minimum Jaccard similarity of word trigrams of near-duplicate sessions."""
    judge_kappa: float = Field(default=0.4, ge=0, le=1)
    """Minimum agreement (Cohen's kappa) of a judge with people on recorded answers for its scores to count."""
    judge_rated: Count = 20
    """Minimum number of recorded answers with a verdict for that comparison."""
    episodes: Count = 128
    """Maximum number of cases per evaluation, one per session; new ones first, then those of earlier rounds."""
    arms: tuple[Literal["in_context", "raw"], ...] = ("in_context", "raw")
    """Arms evaluated in addition to the round's start model and new model."""
    sampling: Sampling = Sampling(top_p=0.8, top_k=20)

    @model_validator(mode="after")
    def _something_is_trained_on(self) -> Self:
        if self.held_out + self.validation > MAX_RESERVED:
            raise ValueError(f"held_out and validation add up to more than {MAX_RESERVED}: most has to be trained on")
        return self


class DeploymentConfig(Section):
    """What sessions of the deployment (`oel serve`) have to show of a candidate that passes the other conditions."""

    use: Literal["off", "canary", "shadow"] = "off"
    """`canary`: the candidate answers a share of the sessions, and people's feedback is compared. `shadow`: its answers
    are recorded beside the champion's and not sent; `evaluate.cases.scorer` scores both."""
    tolerance: float = Field(default=0.1, ge=0, lt=1)
    """How far the candidate's mean reward may be below the champion's."""
    level: Probability = 0.05
    """Probability at most that a candidate which is worse than that is let through, however often it is looked at."""


class GateConfig(Section):
    """When a candidate may replace the champion. Rates are shares of 1."""

    test: Literal["bootstrap", "sequential"] = "bootstrap"
    """`bootstrap` compares the round's evaluations; `sequential` plays new episodes and keeps an error budget."""
    sequential: SequentialConfig = SequentialConfig()
    margin: float = Field(default=0.0, ge=0, lt=1)
    """The pass rate must be higher by more than this."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Required share of paired bootstrap samples in which it is (`bootstrap`)."""
    min_episodes: int = Field(default=32, ge=1)
    """Minimum number of common held-out episodes (`bootstrap`), since a bootstrap over very few is overconfident."""
    ood_tolerance: Tolerance = 0.05
    """Allowed drop of an out-of-distribution pass rate below the better of champion and base model."""
    ood_tolerances: dict[str, Tolerance] = Field(default_factory=dict)
    """The same for one suite: name → tolerance."""
    response_ratio: tuple[float, float] = (0.33, 1.5)
    """Bounds of mean response tokens, as multiples of the champion's."""
    truncation_rise: float = Field(default=0.05, ge=0, le=1)
    """Allowed rise of the share of truncated responses above the champion's."""
    refused_knowledge: Literal["drop", "keep"] = "drop"
    """With knowledge.carry_over: whether the next round continues a refused round's knowledge or the champion's."""
    deployment: DeploymentConfig = DeploymentConfig()

    def tolerance(self, suite: str) -> float:
        """The allowed drop of this suite's pass rate."""
        return self.ood_tolerances.get(suite, self.ood_tolerance)

    @field_validator("response_ratio")
    @classmethod
    def _in_order(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= bounds[0] <= bounds[1]:
            raise ValueError("name the lower bound first, then the upper one, neither below 0")
        return bounds


class AlarmsConfig(Section):
    """When the recorded sessions of a project raise an alarm."""

    window: int = Field(default=50, ge=10)
    """Sessions that are compared with as many others to find drift."""
    level: Probability = 0.001
    """Probability that one check of unchanged sessions finds a drift."""
    margin: float = Field(default=0.0, ge=0, lt=1)
    """How far the share of right sessions may be below the champion's predecessor's."""
    rollback: Literal["off", "on"] = "off"
    """`on`: a champion that people call right less often than its predecessor is rolled back before the next round."""
    rollback_level: Probability = 0.01
    """Probability at most that this ever happens to a champion that is no worse."""
