"""Settings of a distillation: response source, teacher, objective, and retention."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from oel_core.config.names import ObjectiveName
from oel_core.config.section import Count, CountOrZero, Section, Share
from oel_core.config.stability import StabilityConfig
from oel_core.config.urls import check_rendezvous

CHUNK_BYTES = {"cpu": 2**27, "cuda": 2**31}
"""By device: room for the logits of one chunk of response tokens and what is computed of them."""


class ReplayConfig(Section):
    """General prompts with a KL penalty against the round-start model."""

    path: str
    """JSONL, one `{"messages": [{"role": ..., "content": ...}, ...]}` a line; or the name of a shipped file:
    `other-tools` has requests to fictional command lines, each with all conventions of its tool in the prompt."""
    weight: float = Field(default=1.0, gt=0)
    """Weight of the mean divergence per replayed response token; the distillation itself has weight 1."""
    prompts_per_step: Count = 8
    """Prompts sampled for each step."""


class RetentionConfig(Section):
    """Measures against forgetting. All are off by default."""

    in_context_weight: float = Field(default=0.0, ge=0)
    """Weight of KL(student with knowledge || round-start model with knowledge), mean per response token; 0: off."""
    in_context_files: Count | None = None
    """Knowledge files of each step whose rollouts that term is computed on, sampled by the seed; null: all. The
    student's forward and backward include the knowledge, once for all rollouts of a file in a micro-batch."""
    counterfactual_weight: float = Field(default=0.0, ge=0)
    """Weight of the same divergence on knowledge whose conventions are other words: those of the responses that do not
    stand in their prompts are replaced, in knowledge and responses alike; 0: off."""
    counterfactual_files: Count = 1
    """Knowledge files of each step whose rollouts that term is computed on, sampled by the seed."""
    start_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the round's start model in the weights that a round results in, the rest being the trained student's: an
    exponential moving average over rounds, or over champions where a gate decides; 0: off."""
    base_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the base model (`model.path`) in the weights that a round results in, the rest being the trained
    student's (linear interpolation as in WiSE-FT, arXiv 2109.01903); 0: off."""
    replay: ReplayConfig | None = None
    top_turns: Share | None = None
    """Share of a step's turns that is trained on: those with the largest divergence, balanced over trajectories."""

    @property
    def reads_knowledge(self) -> bool:
        """Whether a term includes knowledge in the student's forward."""
        return self.in_context_weight > 0 or self.counterfactual_weight > 0

    @property
    def has_reference(self) -> bool:
        """Whether a term is a divergence from the round-start model."""
        return self.reads_knowledge or self.replay is not None


class MaskConfig(Section):
    """Responses and tokens that are scored but not trained on. All masks are off by default."""

    truncated: bool = False
    """Leave out responses that hit the token cap."""
    repetition: float | None = Field(default=None, ge=0, lt=1)
    """Leave out responses whose share of repeated four-grams is above this; null: off."""
    first_tokens: CountOrZero = 0
    """Response tokens at the start of each response that have no loss."""


class RegimeConfig(Section):
    """Source of the responses, teacher, and retention."""

    start: Literal["policy", "base"] = "policy"
    """Weights that student and teacher start from: those of the round's start, as in the paper, or those of
    `model.path` in every round, into which all accumulated knowledge is then distilled again."""
    regime: Literal["on_policy", "teacher_rollouts", "mixture", "sft"] = "on_policy"
    """Source of the responses: the student, the teacher, a mixture of both, or collected responses of passed
    episodes."""
    teacher_share: float = Field(default=0.5, ge=0, le=1)
    """`mixture`: probability that the teacher generates a response of the first step."""
    teacher_share_end: float | None = Field(default=None, ge=0, le=1)
    """The same in the last step, linearly interpolated in between; null: constant."""
    teacher: Literal["frozen", "ema", "live"] = "frozen"
    """The round-start model, an exponential moving average (EMA) of the student, or the student itself."""
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the `ema` teacher per step."""
    rollouts: Literal["transformers", "vllm", "openai"] = "transformers"
    """Generator of the student's responses: the training process itself, or an engine with synchronised weights."""
    retention: RetentionConfig = RetentionConfig()
    mask: MaskConfig = MaskConfig()
    processes: Count = 1
    """Data-parallel processes on each node, one per GPU; does not change the result."""
    nodes: Count = 1
    """Machines that take part: the run's, and others on which `oel join` runs; does not change the result."""
    rendezvous: Annotated[str, AfterValidator(check_rendezvous)] = "127.0.0.1:29400"
    """`HOST:PORT` of the run's machine where the nodes meet; unauthenticated, so an address of a private network."""
    nodes_wait_s: float = Field(default=600, gt=0)
    """Maximum seconds that the run waits for the other nodes."""
    sharding: Literal["none", "fsdp2"] = "none"
    """Whether every process keeps everything, or weights, gradients and optimiser state are sharded (FSDP2)."""

    @model_validator(mode="after")
    def _shards_are_one_model(self) -> Self:
        if self.sharding == "none":
            return self
        if self.processes * self.nodes == 1:
            raise ValueError("sharding divides a model among processes: set processes to 2 or more")
        if self.teacher != "frozen":
            raise ValueError(f"the {self.teacher} teacher follows whole weights: set sharding to none")
        return self

    @model_validator(mode="after")
    def _average_has_two_ends(self) -> Self:
        if self.start == "base" and self.retention.start_share > 0:
            raise ValueError(
                "start is base, so retention.start_share would be a share of the base model: set retention.base_share"
            )
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
                ("retention.counterfactual_weight", self.retention.counterfactual_weight > 0),
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
    """T: number of optimiser steps."""
    episodes_per_step: Count = 64
    """Episodes whose turns are the prompts of one step."""
    turns_per_episode: Count | None = None
    """Maximum turns used of an episode, sampled at random; null uses all."""
    learning_rate: float = Field(default=5e-6, gt=0)
    """Of the first step."""
    schedule: Literal["constant", "linear", "cosine", "warmup_stable_decay"] = "constant"
    """Learning rate schedule: constant as in the paper, decaying to zero over the round's steps, or constant for two
    thirds of them and then decaying linearly to zero."""
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradient norm for clipping."""
    objective: ObjectiveName = "reverse_kl_tail"
    """The loss; `oel_core/distillation/objectives/losses.py` defines each. The paper's is `reverse_kl_top_k`, which has
    no lower bound at zero and can diverge at large learning rates (docs/distillation.md)."""
    jsd_beta: float = Field(default=0.5, gt=0, lt=1)
    """Weight of the teacher in the mixture of `generalised_jsd`."""
    top_k: Count = 256
    """Number of the student's likeliest tokens that the top-k objectives sum over."""
    clip: float | None = Field(default=None, gt=0)
    """Maximum loss of one response token, nats; a clipped token has no gradient. null: off."""
    temperature: float = Field(default=0.7, gt=0)
    """Temperature of the loss's two distributions and of the student's sampling."""
    max_response_tokens: Count = 1024
    """Maximum tokens of a student response."""
    micro_batch_tokens: Count = 2048
    """Student tokens in one forward and backward, shared prefixes counted once; does not change the result."""
    gradient_checkpointing: bool = False
    """Recompute the student's layers in the backward: less memory, about a third more time."""
    activation_offload: bool = False
    """Keep what the student's forward saves for its backward in host memory; does not change the result."""
    student_layout: Literal["auto", "packed", "padded"] = "auto"
    """Layout of a micro-batch in the student's forward; auto packs without padding if the architecture supports it."""
    teacher_prefix: Literal["auto", "shared", "cached", "full"] = "auto"
    """Handling of the knowledge prefix in the teacher's forward; auto takes the first that the architecture
    supports."""
    prefix_cache_gb: float = Field(default=8.0, ge=0)
    """GB (10^9 bytes) on the teacher's device for the KV caches of knowledge files."""
    prefix_spill_gb: float = Field(default=32.0, ge=0)
    """GB of host memory for KV caches that exceed that budget; the remaining ones are recomputed at each use."""
    stability: StabilityConfig = StabilityConfig()
    checkpoint_every: Count = 5
    """Steps between resumable checkpoints."""
    keep_checkpoints: Count = 2
    """Number of resumable checkpoints kept."""
