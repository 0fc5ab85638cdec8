"""Training regimes: the source of the responses, chosen by `distill.regime`."""

from collections.abc import Sequence
from typing import Any

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.regimes.base import Regime
from oel_core.distillation.regimes.mixture import Mixture
from oel_core.distillation.regimes.on_policy import OnPolicy
from oel_core.distillation.regimes.sft import Sft
from oel_core.distillation.regimes.teacher_rollouts import TeacherRollouts
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.rollouts import Sampler

__all__ = ["Mixture", "OnPolicy", "Regime", "Sft", "TeacherRollouts", "make_regime"]


def make_regime(
    student: Any,
    teacher: Teacher,
    config: DistillConfig,
    sampler: Sampler,
    known: Sequence[Sequence[Sample]] = (),
) -> Regime:
    """The regime that `distill.regime` names.

    Args:
        student: causal language model that is trained.
        teacher: computes the target distribution; a placeholder for `sft`.
        config: the distillation's settings.
        sampler: generates responses.
        known: the samples of every step, if this process generates all their responses.
    """
    if config.teacher != "frozen":
        known = ()
    if config.regime == "sft":
        return Sft(teacher, config, sampler.tokens)
    if config.regime == "teacher_rollouts":
        return TeacherRollouts(teacher, config, sampler, known)
    if config.regime == "mixture":
        return Mixture(student, teacher, config, sampler, known)
    return OnPolicy(student, teacher, config, sampler)
