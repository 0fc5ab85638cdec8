"""Step records and the step log, `steps.jsonl`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field

from oel_core.errors import ArtifactError
from oel_core.runs.files import write_atomic, writing
from oel_core.runs.jsonl import JsonlWriter, jsonl_bytes, read_jsonl, recover_jsonl
from oel_core.types import Record


class ReplicaKl(Record):
    """Divergence on the samples of one knowledge file."""

    replica: int = Field(ge=0)
    samples: int = Field(ge=1)
    kl_mean: float
    """Mean over the samples of their mean KL per response token, nats."""
    kl_sd: float
    """Population standard deviation of the same over the samples, nats."""


class StepRecord(Record):
    """One optimizer step: one line of `steps.jsonl`."""

    step: int = Field(ge=1)
    """The first step is 1."""
    loss: float
    """The minimised loss, retention terms included."""
    kl: float
    """The objective's divergence before any clip, mean per response token, nats."""
    entropy: float
    """Of the student at the loss's temperature, mean per response token, nats."""
    grad_norm: float
    """Before clipping."""
    lr: float
    response_tokens: int = Field(ge=1)
    """Response tokens of the step; the loss is a mean over these, or over `trained_tokens`."""
    response_length: float
    """Mean response tokens of a sample."""
    truncation_rate: float = Field(ge=0, le=1)
    """Share of responses truncated at `max_response_tokens`."""
    repetition_rate: float = Field(ge=0, le=1)
    """Share of the four-grams of all responses that occurred earlier in the same response."""
    student_mass: float | None = Field(default=None, ge=0, exclude_if=lambda value: value is None)
    """The student's probability mass on its top-k tokens, mean per response token; top-k objectives only."""
    teacher_mass: float | None = Field(default=None, ge=0, exclude_if=lambda value: value is None)
    """The teacher's probability mass on the same tokens."""
    backtracks: int = Field(default=0, ge=0, exclude_if=lambda value: value == 0)
    """Number of rollbacks before this step; each halved the learning rate."""
    draws: tuple[int, ...]
    """Replica of each sample's knowledge file, in the order of the samples."""
    draw_kl: tuple[ReplicaKl, ...]
    wall_s: float = Field(ge=0)
    """Seconds of the step, rollouts included."""
    tokens: int = Field(ge=1)
    """Prompt and response tokens of the student's forward."""
    terms: dict[str, float] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Mean divergence per response token of each retention term, nats, before its weight."""
    trained_tokens: int | None = Field(default=None, ge=0, exclude_if=lambda value: value is None)
    """Number of response tokens that were trained on, where not all were."""
    trained_turns: int | None = Field(default=None, ge=0, exclude_if=lambda value: value is None)
    """Number of turns that were trained on, where not all were; 0: no update in this step."""


OnStep = Callable[[StepRecord], None]
"""Called after each step."""


class StepLog:
    """`steps.jsonl`: append-only; truncated to the checkpoint's step on resume."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: StepRecord) -> None:
        """Adds a line and flushes it to the disk.

        Raises:
            ArtifactError: the disk is full; an incomplete line is removed on resume.
        """
        with writing(self.path), JsonlWriter(self.path) as writer:
            writer.append(record)

    def cut_after(self, step: int) -> None:
        """Removes every line after `step`; a resumed run repeats these steps.

        Raises:
            ArtifactError: a line up to `step` is missing, or a line is corrupt.
        """
        records = recover_jsonl(self.path, StepRecord)[:step]
        if [record.step for record in records] != list(range(1, step + 1)):
            raise ArtifactError(
                f"{self.path} does not hold steps 1 to {step}, but the checkpoint is of step {step}: restore the file, "
                "or delete its folder and distil again"
            )
        with writing(self.path):
            write_atomic(self.path, jsonl_bytes(records))


def read_steps(path: Path) -> list[StepRecord]:
    """All records of a finished `steps.jsonl`. ArtifactError names a corrupt line."""
    return list(read_jsonl(path, StepRecord))


def kl_by_replica(replicas: Sequence[int], sample_kl: Sequence[float]) -> tuple[ReplicaKl, ...]:
    """Statistics of the samples' mean KL by knowledge file, replicas in ascending order."""
    stats = []
    for replica in sorted(set(replicas)):
        values = [kl for drawn, kl in zip(replicas, sample_kl, strict=True) if drawn == replica]
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        stats.append(ReplicaKl(replica=replica, samples=len(values), kl_mean=mean, kl_sd=variance**0.5))
    return tuple(stats)
