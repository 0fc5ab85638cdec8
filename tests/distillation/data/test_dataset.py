"""Samples of a step: random choices, validation, and reproducibility."""

import pytest

from oel_core.config.knowledge import InjectionConfig
from oel_core.config.run import DistillConfig
from oel_core.distillation.data.context import drop_long_prompts
from oel_core.distillation.data.dataset import (
    Sample,
    Step,
    build_steps,
    check_context,
    check_knowledge,
    limit_turns,
    max_sequence_length,
)
from oel_core.errors import DistillationError, ExtractionError
from oel_core.prompts.injection import GLOBAL
from oel_core.prompts.play import first_messages, with_knowledge
from oel_core.types import PartialRollout
from tests.distillation.builders import knowledge


def prompts(episodes, turns=1):
    return [
        PartialRollout(trajectory_id=f"e{episode}", turn=turn, messages=first_messages("intro", f"{episode} {turn}"))
        for episode in range(episodes)
        for turn in range(turns)
    ]


def encode(messages):
    return [ord(letter) for message in messages for letter in message.content]


def test_draws_are_recorded_spread_and_the_same_again():
    files = [knowledge("one", replica=4), knowledge("two", replica=7)]
    config = DistillConfig(steps=2)
    first = build_steps([prompts(40), prompts(40)], files, config, encode, seed=1)
    again = build_steps([prompts(40), prompts(40)], files, config, encode, seed=1)
    other = build_steps([prompts(40), prompts(40)], files, config, encode, seed=2)

    drawn = [[sample.replica for sample in step.samples] for step in first]
    assert first == again
    assert [[sample.replica for sample in step.samples] for step in other] != drawn
    assert drawn[0] != drawn[1]
    assert 10 < drawn[0].count(4) < 30
    assert {sample.seed for step in first for sample in step.samples}.__len__() == 80


def test_teacher_reads_exactly_the_drawn_knowledge_and_the_student_none():
    files = [knowledge("holes are H"), knowledge("goals are G", replica=1)]
    (step,) = build_steps([prompts(12)], files, DistillConfig(steps=1), encode, seed=0)
    for sample, prompt in zip(step.samples, prompts(12), strict=True):
        assert list(sample.prompt) == encode(prompt.messages)
        assert list(sample.teacher_prompt) == encode(
            with_knowledge(prompt.messages, files[sample.knowledge_index].text)
        )
        assert sample.id == f"{prompt.trajectory_id}/turn0"


def test_equal_prompts_are_encoded_once():
    calls = []

    def counting(messages):
        calls.append(messages)
        return encode(messages)

    same = [PartialRollout(trajectory_id=f"e{i}", turn=0, messages=first_messages("intro", "x")) for i in range(20)]
    build_steps([same], [knowledge("k")], DistillConfig(steps=1), counting, seed=0)
    assert len(calls) == 2


@pytest.mark.parametrize("most", [1, 2, 9, None])
def test_turns_are_limited_for_each_episode(most):
    kept = limit_turns(prompts(6, turns=4), most, seed=3)
    counts = [sum(prompt.trajectory_id == f"e{episode}" for prompt in kept) for episode in range(6)]
    assert counts == [min(most or 4, 4)] * 6
    assert kept == [prompt for prompt in prompts(6, turns=4) if prompt in kept]
    assert kept == limit_turns(prompts(6, turns=4), most, seed=3)


def test_limited_turns_are_not_always_the_same_ones():
    kept = limit_turns(prompts(30, turns=4), 1, seed=3)
    assert {prompt.turn for prompt in kept} == {0, 1, 2, 3}


def test_steps_without_prompts_or_of_the_wrong_number_are_refused():
    with pytest.raises(DistillationError, match="step 2 has no prompts"):
        build_steps([prompts(1), []], [knowledge("k")], DistillConfig(steps=2), encode, seed=0)
    with pytest.raises(DistillationError, match=r"distill.steps is 3, but prompts were given for 1"):
        build_steps([prompts(1)], [knowledge("k")], DistillConfig(steps=3), encode, seed=0)


def test_missing_and_empty_knowledge_is_refused_unless_wanted():
    with pytest.raises(ExtractionError, match="no knowledge file"):
        check_knowledge([], allow_empty=True)
    with pytest.raises(ExtractionError, match="replica 3 is empty"):
        check_knowledge([knowledge("x"), knowledge(" \n", replica=3)], allow_empty=False)
    check_knowledge([knowledge("")], allow_empty=True)


def test_too_long_prompts_are_refused_by_how_many_tokens():
    steps = build_steps([prompts(3)], [knowledge("k" * 50, replica=5)], DistillConfig(steps=1), encode, seed=0)
    most = max(len(sample.teacher_prompt) for sample in steps[0].samples)
    check_context(steps, 10, most + 10)
    with pytest.raises(DistillationError, match=r"replica 5, is 4 tokens over.*model.max_length"):
        check_context(steps, 10, most + 6)


def sample(index, prompt, taught):
    return Sample(f"e{index}/turn0", index, [1] * prompt, [1] * taught, knowledge_index=0, replica=5, seed=0)


def test_too_long_prompts_are_counted_and_the_longest_is_taken_apart():
    steps = [Step(1, (sample(0, 10, 40), sample(1, 12, 41), sample(2, 12, 40))), Step(2, (sample(3, 9, 40),))]
    said = r"1 of 4 .*e1/turn0 .* is 1 tokens over: prompt 12 \+ knowledge 29 \+ response 10\."
    with pytest.raises(DistillationError, match=said):
        check_context(steps, 10, 50)


def test_the_longest_sequence_may_be_a_replayed_one():
    config = DistillConfig(max_response_tokens=10)
    step = Step(1, (sample(0, 10, 40), sample(1, 12, 30)))
    assert max_sequence_length([step], config) == 50
    assert max_sequence_length([step, Step(2, (sample(2, 1, 2),), replay=(sample(3, 45, 45),))], config) == 55


def test_long_prompts_are_left_out_and_named_and_the_others_are_learned_from():
    files = [knowledge("k" * 50), knowledge("j" * 40, replica=1)]
    long = PartialRollout(trajectory_id="long", turn=3, messages=first_messages("intro", "b" * 500))
    steps = [[*prompts(3), long], [long, *prompts(2)], prompts(1)]
    room = len(encode(with_knowledge(prompts(1)[0].messages, "k" * 50)))
    kept, left_out = drop_long_prompts(steps, files, encode, room, GLOBAL)
    assert kept == [prompts(3), prompts(2), prompts(1)]
    assert [(one.id, one.tokens - one.room) for one in left_out] == [("long/turn3", 499 - 2)]
    assert drop_long_prompts(steps, files, encode, room + 497, GLOBAL) == (steps, [])
    assert drop_long_prompts([*steps, [long]], files, encode, room, GLOBAL) == ([*steps, [long]], []), (
        "for the check to name it"
    )


def test_step_wise_teachers_read_what_has_to_do_with_the_turn():
    files = [knowledge("cell 0 is safe\ncell 1 is deadly")]
    turns = [
        PartialRollout(trajectory_id="e", turn=turn, messages=first_messages("intro", f"you see {turn}"))
        for turn in range(2)
    ]
    step_wise = InjectionConfig(mode="step_wise")
    (step,) = build_steps([turns], files, DistillConfig(steps=1), encode, seed=0, injection=step_wise)
    for sample, turn, line in zip(step.samples, turns, files[0].text.splitlines(), strict=True):
        assert list(sample.prompt) == encode(turn.messages)
        assert list(sample.teacher_prompt) == encode(with_knowledge(turn.messages, line))


def test_a_teacher_that_reads_what_its_student_reads_is_refused():
    def without_system(messages):
        return encode([message for message in messages if message.role != "system"])

    with pytest.raises(DistillationError, match=r"prompt for e0/turn0 is the student's: the model's chat template"):
        build_steps([prompts(1)], [knowledge("k")], DistillConfig(steps=1), without_system, seed=0)
    (step,) = build_steps([prompts(1)], [knowledge("")], DistillConfig(steps=1), without_system, seed=0)
    assert list(step.samples[0].prompt) == list(step.samples[0].teacher_prompt)
