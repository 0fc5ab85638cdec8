"""Off-policy: the teacher generates with knowledge, the student is trained on these responses without knowledge."""

from collections.abc import Sequence
from dataclasses import replace

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.objectives.losses import Objective
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.rollouts import Rollout, Sampler


class TeacherRollouts:
    """Trains on the teacher's responses (context distillation, arXiv 2209.15189; sequence-level, arXiv 1606.07947).

    What a frozen teacher answers does not depend on the step, so the responses of consecutive steps are generated as
    one batch. The groups are fixed, so a resumed run generates the same batches.

    Args:
        teacher: generates the responses and computes the target distribution.
        config: the objective's settings.
        sampler: generates responses.
        known: for each step, in order, the samples that a frozen teacher answers on this process; empty if the teacher
            moves or a step is divided among processes, which then generates each step's responses by themselves.
    """

    def __init__(
        self, teacher: Teacher, config: DistillConfig, sampler: Sampler, known: Sequence[Sequence[Sample]] = ()
    ) -> None:
        self.objective = Objective.named(config)
        self.teacher = teacher
        self._sampler = sampler
        self._groups = {sample.seed: group for group in group_steps(known, sampler.batch_size) for sample in group}
        self._generated: dict[int, Rollout] = {}

    def roll_out(self, samples: Sequence[Sample]) -> list[Rollout]:
        """As `Regime.roll_out`."""
        group = self._groups.get(samples[0].seed)
        if group is None:
            return self._generate(samples)
        if samples[0].seed not in self._generated:
            self._generated = dict(zip((one.seed for one in group), self._generate(group), strict=True))
        return [self._generated[sample.seed] for sample in samples]

    def _generate(self, samples: Sequence[Sample]) -> list[Rollout]:
        asked = [replace(one, prompt=one.teacher_prompt, index=place) for place, one in enumerate(samples)]
        with self.teacher.generation_model() as model:
            used = {sample.knowledge_index for sample in samples}
            found = self._sampler.roll_out(model, asked, lambda: self.teacher.prefilled(used))
        return [replace(rollout, sample=sample) for rollout, sample in zip(found, samples, strict=True)]


def group_steps(steps: Sequence[Sequence[Sample]], batch_size: int) -> list[list[Sample]]:
    """The samples of consecutive steps, as many whole steps a group as fit into a batch; at least one."""
    groups: list[list[Sample]] = []
    for samples in steps:
        if groups and len(groups[-1]) + len(samples) <= batch_size:
            groups[-1].extend(samples)
        else:
            groups.append(list(samples))
    return groups
