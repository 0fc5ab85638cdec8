"""Builds the samples of each step from a round's partial rollouts: knowledge file, student and teacher prompt, seed.

Every random choice is a function of the seed, the step and the index, so a resumed run repeats it.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from oel_core.config.knowledge import InjectionConfig
from oel_core.config.run import DistillConfig
from oel_core.errors import DistillationError, ExtractionError
from oel_core.knowledge.selection import sample_file
from oel_core.prompts.injection import GLOBAL, inject
from oel_core.seeds import derive_seed
from oel_core.types import Knowledge, Message, PartialRollout

Encode = Callable[[Sequence[Message]], Sequence[int]]
"""Applies the chat template: messages to token ids, generation prompt included."""


@dataclass(frozen=True)
class Sample:
    """One prompt of one step, tokenised for the student and for the teacher."""

    id: str
    """Trajectory and turn it comes from."""
    index: int
    """Position within its step."""
    prompt: Sequence[int]
    """The student's token ids, without knowledge."""
    teacher_prompt: Sequence[int]
    """The teacher's token ids, with the sampled knowledge file."""
    knowledge_index: int
    """Index of the sampled file in the round's knowledge."""
    replica: int
    """Replica that the sampled file belongs to."""
    seed: int
    """Sampling seed of the response."""
    by_teacher: bool = False
    """The teacher generates the response, from its own prompt; used by the regime `mixture` only."""
    response: Sequence[int] = ()
    """Token ids of a collected response (regime `sft`); otherwise empty."""


@dataclass(frozen=True)
class Step:
    """The samples of one optimiser step."""

    number: int
    """The first step is 1."""
    samples: tuple[Sample, ...]
    replay: tuple[Sample, ...] = ()
    """General prompts for the KL penalty against the reference model."""


def sample_id(trajectory_id: str, turn: int) -> str:
    """Id of the sample made from a turn."""
    return f"{trajectory_id}/turn{turn}"


def check_knowledge(knowledge: Sequence[Knowledge], *, allow_empty: bool) -> None:
    """Validates the knowledge files.

    Raises:
        ExtractionError: there is no knowledge file, or an empty one although `allow_empty` is false.
    """
    if not knowledge:
        raise ExtractionError("there is no knowledge file to distil: run extraction first")
    empty = [str(entry.replica) for entry in knowledge if entry.blank]
    if empty and not allow_empty:
        raise ExtractionError(
            f"the knowledge of replica {', '.join(empty)} is empty, so its teacher equals the student: leave "
            "that file out, or set knowledge.allow_empty=true if this is intended"
        )


def check_responses(
    steps: Sequence[Sequence[PartialRollout]], responses: Mapping[str, Sequence[int]] | None, config: DistillConfig
) -> None:
    """For the regime `sft`: validates that every prompt has a collected response.

    Raises:
        DistillationError: there are no responses, or one is missing or empty.
    """
    if config.regime != "sft":
        return
    if not responses:
        raise DistillationError(
            "distill.regime is sft, but there is no response of a passed episode to train on: collect more episodes, "
            "or set distill.regime=on_policy, which needs no success"
        )
    names = {sample_id(prompt.trajectory_id, prompt.turn) for prompts in steps for prompt in prompts}
    if missing := sorted(name for name in names if not responses.get(name)):
        raise DistillationError(
            f"distill.regime is sft, but {len(missing)} prompts have no collected response, like {missing[0]}: "
            "leave them out, or give their token ids in `responses`"
        )


def limit_turns(prompts: Sequence[PartialRollout], most: int | None, seed: int) -> list[PartialRollout]:
    """At most `most` turns of each trajectory, sampled by `seed`; the order stays (None keeps all)."""
    if most is None:
        return list(prompts)
    turns: dict[str, list[int]] = {}
    for prompt in prompts:
        turns.setdefault(prompt.trajectory_id, []).append(prompt.turn)
    kept = {
        trajectory: set(Random(derive_seed(seed, trajectory)).sample(sorted(found), min(most, len(found))))
        for trajectory, found in turns.items()
    }
    return [prompt for prompt in prompts if prompt.turn in kept[prompt.trajectory_id]]


def build_steps(
    steps: Sequence[Sequence[PartialRollout]],
    knowledge: Sequence[Knowledge],
    config: DistillConfig,
    encode: Encode,
    *,
    seed: int,
    weights: Sequence[float] | None = None,
    responses: Mapping[str, Sequence[int]] | None = None,
    injection: InjectionConfig = GLOBAL,
) -> list[Step]:
    """Samples one knowledge file for each sample and builds both prompts. Equal prompts are encoded once.

    `weights` are the relative sampling weights of the files (None: uniform). `responses` are collected
    ones by the sample's id (`<trajectory>/turn<number>`), `injection` is how the teacher's prompt carries knowledge.

    Raises:
        DistillationError: the number of steps is not the configured one, a step has no prompts, or a teacher's prompt
            is its student's although there is knowledge.
    """
    if len(steps) != config.steps:
        raise DistillationError(f"distill.steps is {config.steps}, but prompts were given for {len(steps)} steps")
    ids = _encode_once(encode)

    def sample(step: int, index: int, prompt: PartialRollout) -> Sample:
        file = sample_file(len(knowledge), weights, derive_seed(seed, "draw", step, index))
        name = sample_id(prompt.trajectory_id, prompt.turn)
        with_knowledge = inject(prompt.messages, knowledge[file].text, injection)
        if with_knowledge != prompt.messages:
            _require_difference(name, ids(prompt.messages), ids(with_knowledge))
        return Sample(
            id=name,
            index=index,
            prompt=ids(prompt.messages),
            teacher_prompt=ids(with_knowledge),
            knowledge_index=file,
            replica=knowledge[file].replica,
            seed=derive_seed(seed, "student", step, index),
            by_teacher=Random(derive_seed(seed, "teacher", step, index)).random() < teacher_share(config, step),
            response=responses.get(name, ()) if responses is not None else (),
        )

    built = []
    for number, prompts in enumerate(steps, start=1):
        if not prompts:
            raise DistillationError(f"step {number} has no prompts: collect episodes for it first")
        kept = limit_turns(prompts, config.turns_per_episode, derive_seed(seed, "turns", number))
        built.append(Step(number, tuple(sample(number, index, prompt) for index, prompt in enumerate(kept))))
    return built


def _encode_once(encode: Encode) -> Callable[[tuple[Message, ...]], Sequence[int]]:
    """`encode` with a cache, of 4 bytes a token: there may be millions."""
    encoded: dict[tuple[Message, ...], Sequence[int]] = {}

    def ids(messages: tuple[Message, ...]) -> Sequence[int]:
        if messages not in encoded:
            encoded[messages] = array("i", encode(messages))
        return encoded[messages]

    return ids


def teacher_share(config: DistillConfig, step: int) -> float:
    """Probability that the teacher answers a sample of a step (from 1 on) in the regime `mixture`."""
    if config.teacher_share_end is None or config.steps == 1:
        return config.teacher_share
    done = (step - 1) / (config.steps - 1)
    return config.teacher_share + done * (config.teacher_share_end - config.teacher_share)


def _require_difference(name: str, prompt: Sequence[int], teacher_prompt: Sequence[int]) -> None:
    """Raises DistillationError where both prompts are equal: the divergence would be zero up to rounding."""
    if prompt == teacher_prompt:
        raise DistillationError(
            f"the teacher's prompt for {name} is the student's: the model's chat template (chat_template.jinja, or "
            "chat_template in tokenizer_config.json) leaves out the message with the knowledge. Give its tokenizer a "
            "template that writes every message, or use another model"
        )


def max_sequence_length(steps: Sequence[Step], config: DistillConfig) -> int:
    """Upper bound of the sequence length over all samples, teacher prompt and response, tokens."""
    samples = (sample for step in steps for sample in (*step.samples, *step.replay))
    return max(len(sample.teacher_prompt) for sample in samples) + config.max_response_tokens


def check_context(steps: Sequence[Step], max_response_tokens: int, max_length: int) -> None:
    """Validates that every teacher prompt plus `max_response_tokens` fits the context window.

    Raises:
        DistillationError: one does not fit; the message has the excess of the longest, in tokens.
    """
    room = max_length - max_response_tokens
    samples = [sample for step in steps for sample in step.samples]
    longest = max(samples, key=lambda sample: len(sample.teacher_prompt))
    over = len(longest.teacher_prompt) - room
    if over <= 0:
        return
    too_long = sum(len(sample.teacher_prompt) > room for sample in samples)
    knowledge = len(longest.teacher_prompt) - len(longest.prompt)
    raise DistillationError(
        f"{too_long} of {len(samples)} teacher prompts do not fit the context of {max_length} tokens "
        "(model.max_length, or the model's own if that is less). The longest, "
        f"{longest.id} with the knowledge of replica {longest.replica}, is {over} tokens over: prompt "
        f"{len(longest.prompt)} + knowledge {knowledge} + response {max_response_tokens}. Raise model.max_length, or "
        "lower knowledge.max_tokens or distill.max_response_tokens"
    )
