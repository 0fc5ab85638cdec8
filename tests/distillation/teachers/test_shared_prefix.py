"""Where the seam lies for real templates and tokenizers, and what is kept within the budgets."""

from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample, Step, build_steps
from oel_core.distillation.forward.split_model import SplitModel
from oel_core.distillation.forward.student import Student
from oel_core.distillation.teachers.shared_prefix import PrefixStore, compute_prefix, find_prefixes
from oel_core.distillation.training.update import accumulate_gradients
from oel_core.models.loading import load_tokenizer
from oel_core.policies.text.chat import prompt_ids
from oel_core.prompts.play import first_messages, next_messages, with_knowledge
from oel_core.types import PartialRollout
from tests.distillation.builders import knowledge
from tests.distillation.exact import assert_same_gradients, gradients, make_rollouts, make_teacher, update_rounding
from tests.fakes import byte_tokenizer, tiny_model
from tests.rounding import in_float64

pytestmark = pytest.mark.numeric

FILES = [knowledge("- H is a hole\n- goals are G"), knowledge("- keys first", replica=1)]


def merging_tokenizer():
    """Words of which a whole line is one token: what follows the knowledge changes the token at its end."""
    backend = Tokenizer(
        models.BPE(
            vocab={
                character: index for index, character in enumerate([*map(chr, range(32, 127)), "\n", "!\n", "!\nu"])
            },
            merges=[("!", "\n"), ("!\n", "u")],
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Split("~", "removed")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="~", eos_token="|")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content + '\n' }}{% endfor %}"
    return tokenizer


TOKENIZERS = {
    "byte": byte_tokenizer,
    "seed_lm": lambda: load_tokenizer("seed-lm"),
    "merging": merging_tokenizer,
}


def partial_rollouts():
    found = []
    for episode in range(6):
        first = first_messages("You walk.", f"up or down {episode}")
        second = next_messages(first, "[up]", "nothing happens", history_turns=None)
        found += [
            PartialRollout(trajectory_id=f"e{episode}", turn=turn, messages=messages)
            for turn, messages in enumerate((first, second))
        ]
    return found


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_prefix_and_rest_are_the_ids_of_the_whole_prompt(name, thinking):
    tokenizer = TOKENIZERS[name]()

    def encode(messages):
        return prompt_ids(tokenizer, messages, thinking=thinking)

    rollouts = partial_rollouts()
    (step,) = build_steps([rollouts], FILES, DistillConfig(steps=1), encode, seed=0)
    prefixes = find_prefixes([step])
    assert sorted(prefixes) == [0, 1]
    for sample, rollout in zip(step.samples, rollouts, strict=True):
        prefix = list(prefixes[sample.knowledge_index])
        whole = encode(with_knowledge(rollout.messages, FILES[sample.knowledge_index].text))
        rest = list(sample.teacher_prompt[len(prefix) :])
        assert rest
        assert prefix + rest == whole
        shown = tokenizer.decode(prefix).replace(" ", "")
        assert FILES[sample.knowledge_index].text.replace(" ", "") in shown  # the whole file is shared


def test_seam_moves_where_the_tokenizer_merges_across_the_end_of_the_knowledge():
    tokenizer = merging_tokenizer()
    texts = [f"Beware of holes!\n{word}" for word in ("up", "down", "left")]
    prompts = [tokenizer(text)["input_ids"] for text in texts]
    samples = tuple(Sample(str(at), at, [1], prompt, 0, 0, 0) for at, prompt in enumerate(prompts))
    (prefix,) = find_prefixes([Step(1, samples)]).values()
    alone = tokenizer("Beware of holes!\n")["input_ids"]
    assert list(prefix) == alone[:-1]  # "!\nu" is one token in one of the prompts
    assert all(list(prefix) == prompt[: len(prefix)] for prompt in prompts)
    assert {prompt[len(prefix)] for prompt in prompts} == set(tokenizer.convert_tokens_to_ids(["!\n", "!\nu"]))


def test_equal_prompts_keep_a_token_of_their_own():
    samples = tuple(Sample(str(at), at, [1], [5, 6, 7], 0, 0, 0) for at in range(3))
    assert find_prefixes([Step(1, samples)]) == {0: (5, 6)}
    assert find_prefixes([Step(1, samples[:1])]) == {0: (5, 6)}
    assert find_prefixes([Step(1, (Sample("a", 0, [1], [5], 0, 0, 0),))]) == {0: ()}


def counting(store, split):
    calls = []

    def compute(ids):
        calls.append(tuple(ids))
        return compute_prefix(split, ids)

    return calls, lambda file: store.get(file, compute)


def test_prefixes_are_kept_while_there_is_room_and_computed_again_beyond_it():
    split = SplitModel(tiny_model())
    prefixes = {file: tuple(range(3, 13)) for file in range(3)}
    size = compute_prefix(split, prefixes[0]).bytes
    assert size == 2 * 2 * 10 * 16 * 4  # keys and values, layers, tokens, width of the one key head, float32
    store = PrefixStore(prefixes, 2 * size, 100 * size)
    calls, get = counting(store, split)
    caches = [get(file) for file in (0, 1, 2, 0, 1, 2)]
    assert [cache.kept for cache in caches] == [True, True, False] * 2
    assert caches[0] is caches[3]
    assert len(calls) == 4  # the device is the CPU, so main memory is no further room
    for ours, again in zip(caches[2].tensors, caches[5].tensors, strict=True):
        assert torch.equal(ours[0], again[0])
    store.clear()
    get(0)
    assert len(calls) == 5


@pytest.mark.parametrize("form", ["shared", "cached"])
def test_budget_changes_time_and_not_the_result(form):
    rollouts = make_rollouts([(5, 6), (9, 3), (2, 8), (4, 4), (8, 5)], knowledge=(30, 30, 30))
    results = []
    for room in (1.0, 14e-6, 0.0):
        config = DistillConfig(top_k=20, prefix_cache_gb=room, teacher_prefix=form)
        model = in_float64(tiny_model())
        teacher = make_teacher(in_float64(tiny_model(1)), rollouts, config)
        student = Student(model, config)
        twice = [accumulate_gradients(student, teacher, rollouts, config) for _ in range(2)]
        bound = update_rounding(model, rollouts, twice[0].losses)
        # a second use of a cache finds it as it was
        torch.testing.assert_close(twice[0].loss, twice[1].loss, rtol=0, atol=bound)
        results.append((twice[0].loss, gradients(model)))
    for loss, found in results[1:]:
        torch.testing.assert_close(loss, results[0][0], rtol=0, atol=bound)
        assert_same_gradients(found, results[0][1], bound)


def test_samples_without_their_prefix_are_read_in_full():
    rollouts = make_rollouts([(5, 6), (9, 3), (2, 8)])
    config = DistillConfig()
    model = in_float64(tiny_model(1))
    teacher = make_teacher(model, rollouts[:1], config)
    whole = make_teacher(model, rollouts, config.model_copy(update={"teacher_prefix": "full"}))
    wanted = whole.hidden(rollouts)
    bound = update_rounding(model, rollouts, [wanted])
    torch.testing.assert_close(teacher.hidden(rollouts), wanted, atol=bound, rtol=0)


def test_what_prompts_without_their_prefix_have_in_common_is_read_once():
    """Other knowledge than that of the round, as in counterfactual rollouts."""
    rollouts = make_rollouts([(5, 1)] * 4, knowledge=(60,))
    teacher = make_teacher(tiny_model(1), rollouts, DistillConfig())
    others = [
        replace(one, sample=replace(one.sample, teacher_prompt=[7] * 60 + [index] * 5))
        for index, one in enumerate(rollouts)
    ]
    seen = []
    inner = teacher._reader.split.model
    inner.model.register_forward_pre_hook(
        lambda _, given, named: seen.append(named["input_ids"].numel()), with_kwargs=True
    )
    teacher.hidden(others)
    assert seen == [60 + 4 * 5]


@pytest.mark.parametrize(("tokens", "rows"), [(15, [3, 2]), (12, [2, 2, 1]), (1, [1] * 5), (10**4, [5])])
def test_padded_reads_hold_as_many_rows_as_there_is_room_for(tokens, rows):
    """Sequences of 20 tokens; four times `micro_batch_tokens` are read at once without gradient."""
    rollouts = make_rollouts([(1, 1)] * 5, knowledge=(12,), system=6)
    rollouts = [replace(one, sample=replace(one.sample, teacher_prompt=[5] * 19)) for one in rollouts]
    model = tiny_model(1)
    teacher = make_teacher(model, rollouts, DistillConfig(teacher_prefix="full", micro_batch_tokens=tokens))
    seen = []
    inner = teacher._reader.split.model
    inner.model.register_forward_pre_hook(
        lambda _, given, named: seen.append(named["input_ids"].shape[0]), with_kwargs=True
    )
    teacher.hidden(rollouts)
    assert seen == rows
