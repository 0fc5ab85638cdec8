"""Which rollouts of a step are trained on."""

from collections.abc import Sequence

from oel_core.config.distill import MaskConfig
from oel_core.distillation.stability.repetition import repetition_rate
from oel_core.distillation.training.rollouts import Rollout


def trained_indices(rollouts: Sequence[Rollout], mask: MaskConfig) -> list[int]:
    """Indices of the rollouts that no rule of the mask leaves out, in ascending order."""
    return [index for index, rollout in enumerate(rollouts) if not _left_out(rollout, mask)]


def _left_out(rollout: Rollout, mask: MaskConfig) -> bool:
    if mask.truncated and rollout.truncated:
        return True
    if mask.repetition is not None and repetition_rate([rollout.response]) > mask.repetition:
        return True
    return len(rollout.response) <= mask.first_tokens
