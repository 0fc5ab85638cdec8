"""Settings of a distillation: who answers, who teaches, what is minimised, and what must not be forgotten."""

from typing import Literal, Self

from pydantic import Field, model_validator

from oel_core.config.names import ObjectiveName
from oel_core.config.section import Count, CountOrZero, Section, Share
from oel_core.config.stability import StabilityConfig

CHUNK_BYTES = {"cpu": 2**27, "cuda": 2**31}
"""By device: room for the logits of one chunk of response tokens and what is computed of them."""


class ReplayConfig(Section):
    """General prompts on which the student is held to the round-start model."""

    path: str
    """JSONL, one `{"messages": [{"role": ..., "content": ...}, ...]}` a line, without knowledge."""
    weight: float = Field(default=1.0, gt=0)
    """Of the mean divergence per replayed response token, beside 1 for the distillation itself."""
    prompts_per_step: Count = 8
    """Drawn at random for each step."""


class RetentionConfig(Section):
    """What keeps a student from unlearning. Everything is off by default."""

    in_context_weight: float = Field(default=0.0, ge=0)
    """Weight of KL(student with knowledge || round-start model with knowledge), mean per response token; 0: off."""
    replay: ReplayConfig | None = None
    top_turns: Share | None = None
    """Share of a step's turns that is trained on: those with the largest divergence, fairly over trajectories."""


class MaskConfig(Section):
    """Responses, and tokens of them, that are scored but not trained on. Everything is off by default."""

    truncated: bool = False
    """Leave out responses that hit the token cap."""
    repetition: float | None = Field(default=None, ge=0, lt=1)
    """Leave out responses whose share of repeated four-grams is above this; null: none for that."""
    first_tokens: CountOrZero = 0
    """Response tokens at the start of each response that have no loss."""


class RegimeConfig(Section):
    """Who writes the responses that a student learns from, who judges them, and what holds it back."""

    regime: Literal["on_policy", "teacher_rollouts", "mixture", "sft"] = "on_policy"
    """Whose responses are learnt from: the student's own, the teacher's, some of each, or collected ones of passed
    episodes."""
    teacher_share: float = Field(default=0.5, ge=0, le=1)
    """`mixture`: probability that a sample of the first step is answered by the teacher, else by the student."""
    teacher_share_end: float | None = Field(default=None, ge=0, le=1)
    """The same in the round's last step, with a straight line between the two; null: it stays `teacher_share`."""
    teacher: Literal["frozen", "ema", "live"] = "frozen"
    """The round's start, a moving average of the student since then, or the student itself."""
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    """Share of itself that the `ema` teacher keeps at each step."""
    rollouts: Literal["transformers", "vllm", "openai"] = "transformers"
    """What draws responses from the student: itself, or an engine that takes its weights over before each step."""
    retention: RetentionConfig = RetentionConfig()
    mask: MaskConfig = MaskConfig()
    processes: Count = 1
    """Processes on this machine that share each step, one for each GPU; not part of the result."""
    sharding: Literal["none", "fsdp2"] = "none"
    """Whether several processes each hold everything, or divide weights, gradients and optimiser state (FSDP2)."""

    @model_validator(mode="after")
    def _shards_are_one_model(self) -> Self:
        if self.sharding == "none":
            return self
        if self.processes == 1:
            raise ValueError("sharding divides a model among processes: set processes to 2 or more")
        if self.teacher != "frozen":
            raise ValueError(f"the {self.teacher} teacher follows whole weights: set sharding to none")
        return self

    @model_validator(mode="after")
    def _sft_has_no_teacher(self) -> Self:
        if self.regime != "sft":
            return self
        clashes = [
            name
            for name, wanted in (
                ("teacher", self.teacher != "frozen"),
                ("retention.in_context_weight", self.retention.in_context_weight > 0),
                ("retention.top_turns", self.retention.top_turns is not None),
            )
            if wanted
        ]
        if clashes:
            raise ValueError(f"regime sft reads no knowledge and has no teacher: leave {', '.join(clashes)} out")
        return self


class DistillConfig(RegimeConfig):
    """Consolidation by context distillation (arXiv 2603.16856 and 2602.12275)."""

    steps: Count = 20
    """T: optimiser steps."""
    episodes_per_step: Count = 64
    """Episodes whose turns make one step's prompts."""
    turns_per_episode: Count | None = None
    """Turns of an episode used at most, drawn at random; null uses all."""
    learning_rate: float = Field(default=5e-6, gt=0)
    """Of the first step."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate goes on: the paper's stays, the others fall towards zero over the round's steps."""
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradient norm clip."""
    objective: ObjectiveName = "reverse_kl_top_k"
    """What is minimised; `oel_core/distillation/objectives/losses.py` defines each. The default is the paper's."""
    jsd_beta: float = Field(default=0.5, gt=0, lt=1)
    """Share of the teacher in the mixture of `generalised_jsd`."""
    top_k: Count = 256
    """Student tokens per position that the top-k objectives sum over."""
    clip: float | None = Field(default=None, gt=0)
    """Most nats that one response token adds to the loss; a token over it gives no gradient. null: no clip."""
    temperature: float = Field(default=0.7, gt=0)
    """Of the loss's two distributions and of the student's sampling."""
    max_response_tokens: Count = 1024
    """Most tokens of a student response."""
    micro_batch_tokens: Count = 2048
    """Student tokens in one forward and backward, shared prompt beginnings counted once; not part of the result."""
    gradient_checkpointing: bool = False
    """Recompute the student's layers in the backward: less memory, about a third more time."""
    student_layout: Literal["auto", "packed", "padded"] = "auto"
    """How the student reads a micro-batch; auto packs without padding where the architecture allows it."""
    teacher_prefix: Literal["auto", "shared", "cached", "full"] = "auto"
    """How the teacher reads knowledge; auto takes the first of these that the architecture allows."""
    prefix_cache_gb: float = Field(default=8.0, ge=0)
    """GB (10^9 bytes) on the teacher's device for the keys and values of knowledge files."""
    prefix_spill_gb: float = Field(default=32.0, ge=0)
    """GB of main memory for those that a GPU has no room for; what fits nowhere is computed at each use."""
    stability: StabilityConfig = StabilityConfig()
    checkpoint_every: Count = 5
    """Steps between resumable checkpoints."""
    keep_checkpoints: Count = 2
    """Resumable checkpoints kept; the oldest goes first."""
