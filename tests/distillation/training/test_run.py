"""Whole distillations: they learn, they resume to the same bytes, and bad input stops them."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import oel_core.distillation.training.update as update_module
from oel_core.distillation.data.context import LeftOutPrompt, count_left_out
from oel_core.distillation.objectives.losses import score
from oel_core.distillation.training.run import distill
from oel_core.distillation.training.step_records import read_steps
from oel_core.errors import ArtifactError, ConfigError, DistillationError, ExtractionError
from oel_core.models.adapters import merge_lora
from oel_core.models.checkpoints import is_adapter
from oel_core.models.loading import load_model
from oel_core.prompts.play import first_messages
from oel_core.runs.jsonl import read_jsonl
from tests.distillation.builders import arguments, knowledge, prompts
from tests.fakes import byte_tokenizer, tiny_model, tiny_model_folder
from tests.rounding import chain, require_bfloat16_attention, rounding

pytestmark = pytest.mark.numeric

LORA = {"r": 4, "alpha": 8, "dropout": 0.2}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


class Abort(Exception):
    pass


def abort_at(step):
    def on_step(record):
        if record.step == step:
            raise Abort

    return on_step


def lines(workdir):
    """The step log without its only field that may differ."""
    return [record.model_copy(update={"wall_s": 0.0}) for record in read_steps(workdir / "steps.jsonl")]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("lora", "rate"), [(None, 2e-3), ({"r": 8}, 1e-2)])
def test_student_without_knowledge_learns_what_its_teacher_knows(start, tmp_path, lora, rate):
    changes = {"steps": 12, "samples": 24, "learning_rate": rate, "max_response_tokens": 4, "lora": lora}
    distill(**arguments(start, tmp_path, **changes))
    records = lines(tmp_path)
    assert [record.step for record in records] == list(range(1, 13))
    assert records[-1].kl < records[0].kl / 2
    assert {record.lr for record in records} == {rate}
    assert all(record.grad_norm > 0 and record.entropy > 0 for record in records)


@pytest.fixture(scope="module", params=[None, LORA], ids=["full", "lora"])
def uninterrupted(request, start, tmp_path_factory):
    """What is trained, and the folder of a distillation that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole")
    distill(**arguments(start, workdir, steps=5, lora=request.param))
    return request.param, workdir


@pytest.mark.parametrize(("stop", "begun_again"), [(2, 1), (3, 3), (5, 5)])
def test_killed_distillation_resumes_to_the_same_bytes(start, tmp_path, uninterrupted, stop, begun_again):
    lora, whole = uninterrupted
    with pytest.raises(Abort):
        distill(**arguments(start, tmp_path, steps=5, lora=lora), on_step=abort_at(stop))
    assert not (tmp_path / "checkpoint").exists()

    seen = []
    distill(**arguments(start, tmp_path, steps=5, lora=lora), on_step=lambda record: seen.append(record.step))

    assert seen == list(range(begun_again, 6))  # a step is reported before it is saved
    assert lines(tmp_path) == lines(whole)
    assert files(tmp_path / "checkpoint") == files(whole / "checkpoint")


def test_finished_distillation_returns_at_once_and_leaves_no_optimiser(start, tmp_path):
    out = distill(**arguments(start, tmp_path, steps=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "inputs.json", "steps.jsonl"]
    before = files(out)
    assert distill(**arguments(start, tmp_path, steps=2), on_step=abort_at(1)) == out
    assert files(out) == before


def test_checkpoints_hold_no_pickle_and_only_the_newest_stay(start, tmp_path):
    with pytest.raises(Abort):
        distill(**arguments(start, tmp_path, steps=5, checkpoint_every=1, keep_checkpoints=2), on_step=abort_at(5))
    kept = sorted((tmp_path / "resume").iterdir())
    assert [path.name for path in kept] == ["step_00003", "step_00004"]
    assert {path.suffix for folder in kept for path in folder.iterdir()} == {".safetensors", ".json"}


def test_second_round_starts_from_the_first_rounds_adapter(start, tmp_path):
    first = distill(**arguments(start, tmp_path / "one", steps=2, lora=LORA))
    second = distill(**arguments(first, tmp_path / "two", steps=2, lora=LORA))
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert not any("teacher" in path.name for path in second.iterdir())
    with pytest.raises(ConfigError, match="adapter of rank 4"):
        distill(**arguments(first, tmp_path / "three", steps=2))


def test_a_merged_adapter_is_a_whole_model_to_which_the_next_round_adds_a_new_one(start, tmp_path):
    merge = {**LORA, "merge": True}
    adapter = distill(**arguments(start, tmp_path / "adapter", steps=2, lora=LORA))
    first = distill(**arguments(start, tmp_path / "one", steps=2, lora=merge))
    given = arguments(start, tmp_path / "one", steps=2, lora=merge)["model"]
    assert not is_adapter(first)
    expected = merge_lora(load_model(str(adapter), given)[0]).state_dict()
    found = load_model(str(first), given)[0].state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())

    second = distill(**arguments(first, tmp_path / "two", steps=2, lora=merge))
    before, after = (load_file(folder / "model.safetensors") for folder in (first, second))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("_proj" in name for name in changed)


def test_bfloat16_keeps_float32_weights_so_that_small_steps_count(start, tmp_path):
    require_bfloat16_attention()
    given = arguments(start, tmp_path, steps=2, learning_rate=1e-6)
    given["model"] = given["model"].model_copy(update={"dtype": "bfloat16"})
    weights = load_file(distill(**given) / "model.safetensors")
    moved = [not torch.equal(weights[name], old) for name, old in load_file(start / "model.safetensors").items()]
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert sum(moved) > len(moved) / 2


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("linear", lambda done: 1 - done),
        ("cosine", lambda done: (1 + math.cos(math.pi * done)) / 2),
        ("warmup_stable_decay", lambda done: 1 if done < 0.75 else 0.5),  # 4 steps, of which the last two decay
    ],
    ids=["linear", "cosine", "warmup_stable_decay"],
)
def test_a_falling_rate_is_that_of_each_step_and_goes_on_after_a_kill(start, tmp_path, schedule, share):
    whole = distill(**arguments(start, tmp_path / "whole", schedule=schedule))
    rates = [record.lr for record in lines(tmp_path / "whole")]
    assert rates == pytest.approx([1e-3 * share(step / 4) for step in range(4)], rel=1e-12)
    with pytest.raises(Abort):
        distill(**arguments(start, tmp_path / "cut", schedule=schedule), on_step=abort_at(3))
    assert files(distill(**arguments(start, tmp_path / "cut", schedule=schedule))) == files(whole)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_constant_rate_and_clipped_update(start, tmp_path):
    """With AdamW's first step every weight moves by about the rate, whatever the gradient's size."""
    weights = load_file(distill(**arguments(start, tmp_path, steps=1, weight_decay=0.0)) / "model.safetensors")
    old = load_file(start / "model.safetensors")
    largest = max(float((weights[name] - old[name]).abs().max()) for name in old)
    size = max(float(weight.abs().max()) for weight in weights.values())
    bound = rounding(size, 2)  # of the step's and of this difference
    assert bound < 1e-5
    assert largest == pytest.approx(1e-3, rel=0, abs=bound)


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        ("loss", "the loss or divergence is not finite"),
        ("divergence", "the loss or divergence is not finite"),
        ("gradient", "gradient is not finite"),
    ],
)
def test_nan_stops_naming_step_samples_and_checkpoint_and_can_be_resumed(start, tmp_path, monkeypatch, poison, reason):
    calls = []

    def broken(*given):
        calls.append(1)
        scored = score(*given)
        spoilt = {poison: getattr(scored, poison) * float("nan")}
        return scored._replace(**spoilt) if len(calls) == 3 else scored

    whole = distill(**arguments(start, tmp_path / "whole", steps=4, micro_batch_tokens=10**6))
    monkeypatch.setattr(update_module, "score", broken)
    with pytest.raises(DistillationError, match=rf"step 3: .*{reason}.*s2e0/turn0.*step_00002"):
        distill(**arguments(start, tmp_path / "cut", steps=4, micro_batch_tokens=10**6))
    monkeypatch.undo()
    assert len(lines(tmp_path / "cut")) == 2
    assert files(distill(**arguments(start, tmp_path / "cut", steps=4, micro_batch_tokens=10**6))) == files(whole)


def test_broken_weights_stop_before_anything_is_learnt(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    model.save_pretrained(tmp_path / "nan")
    byte_tokenizer().save_pretrained(tmp_path / "nan")
    with pytest.raises(DistillationError, match=r"step 1.*not finite.*s0e0.*start of the round"):
        distill(**arguments(tmp_path / "nan", tmp_path / "work"))


def test_empty_knowledge_is_refused_unless_the_arm_is_wanted(start, tmp_path):
    given = arguments(start, tmp_path, steps=1) | {"knowledge": [knowledge("", replica=2)]}
    with pytest.raises(ExtractionError, match="replica 2 is empty"):
        distill(**given)
    distill(**given, allow_empty=True)
    record = lines(tmp_path)[0]  # student and teacher read the same prompt, each of at most as many tokens as all have
    bound = rounding(1.0, chain(tiny_model(), record.tokens, record.tokens))
    assert record.kl == pytest.approx(0.0, rel=0, abs=bound)


def test_what_does_not_fit_the_context_is_refused_before_training(start, tmp_path):
    given = arguments(start, tmp_path)
    given["knowledge"] = [knowledge("z" * 3000, replica=1)]
    with pytest.raises(DistillationError, match=r"24 of 24 teacher prompts .* knowledge of replica 1, is \d+ tokens"):
        distill(**given)
    assert not (tmp_path / "steps.jsonl").exists()


def test_a_prompt_that_does_not_fit_is_left_out_and_the_round_goes_on(start, tmp_path):
    given = arguments(start, tmp_path)
    (first, *others), *rest = given["steps"]
    long = first.model_copy(update={"trajectory_id": "long", "messages": first_messages("intro", "b" * 3000)})
    distill(**{**given, "steps": [[long, first, *others], *rest]})
    left_out = list(read_jsonl(tmp_path / "left_out.jsonl", LeftOutPrompt))
    assert [one.id for one in left_out] == [f"long/turn{first.turn}"]
    assert left_out[0].tokens > left_out[0].room
    assert count_left_out(tmp_path) == 1
    assert len(read_steps(tmp_path / "steps.jsonl")) == len(given["steps"])


@pytest.mark.parametrize("objective", ["reverse_kl_tail", "forward_kl", "generalised_jsd"])
def test_any_objective_brings_the_student_towards_its_teacher(start, tmp_path, objective):
    changes = {"steps": 8, "samples": 24, "learning_rate": 2e-3, "max_response_tokens": 4, "objective": objective}
    distill(**arguments(start, tmp_path, **changes))
    records = lines(tmp_path)
    assert sum(record.kl for record in records[-2:]) < 0.8 * sum(record.kl for record in records[:2])


def test_clip_lowers_the_loss_and_not_the_reported_divergence(start, tmp_path):
    for name, clip in (("free", None), ("clipped", 0.5)):
        distill(**arguments(start, tmp_path / name, steps=1, clip=clip))
    free, clipped = (lines(tmp_path / name)[0] for name in ("free", "clipped"))
    assert free.loss == free.kl == clipped.kl
    assert clipped.loss < 0.5


def test_tokenizer_that_is_larger_than_the_model_is_refused(tmp_path):
    folder = tiny_model_folder(tmp_path)
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"<extra{index}>" for index in range(9)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ArtifactError, match="tokenizer has 268 tokens, its model only 259"):
        distill(**arguments(folder, tmp_path / "work"))


def test_other_inputs_do_not_go_on_with_started_work(start, tmp_path):
    with pytest.raises(Abort):
        distill(**arguments(start, tmp_path), on_step=abort_at(3))
    with pytest.raises(ArtifactError, match=r"distill.learning_rate: 0.001 → 0.002") as caught:
        distill(**arguments(start, tmp_path, learning_rate=2e-3))
    assert "prompts" not in str(caught.value)
    with pytest.raises(ArtifactError, match="prompts"):
        distill(**(arguments(start, tmp_path) | {"steps": prompts(4, 7)}))


def test_missing_lines_of_the_step_log_are_noticed(start, tmp_path):
    with pytest.raises(Abort):
        distill(**arguments(start, tmp_path), on_step=abort_at(3))
    (tmp_path / "steps.jsonl").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"steps.jsonl does not hold steps 1 to 2"):
        distill(**arguments(start, tmp_path))


CHILD = """
import sys
from pathlib import Path
from oel_core.distillation.training.run import distill
from oel_core.runs.jsonl import read_jsonl
from oel_core.prompts.play import first_messages
from tests.distillation.builders import arguments
start, workdir = map(Path, sys.argv[1:])
distill(**arguments(start, workdir, steps=6, checkpoint_every=1), on_step=lambda r: print(r.step, flush=True))
"""


@pytest.mark.slow
def test_sigkill_at_any_moment_ends_in_the_same_bytes(start, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    root = Path(__file__).parents[3]
    # The number of threads decides how sums are rounded, so all runs have the same.
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def run_whole(folder: Path) -> None:
        command = [sys.executable, "-c", CHILD, str(start), str(folder)]
        subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)

    run_whole(whole)
    command = [sys.executable, "-c", CHILD, str(start), str(cut)]
    for delay in (0.0, 0.01, 0.03, 0.06):
        child = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert child.stdout.readline()
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
    run_whole(cut)
    assert files(cut / "checkpoint") == files(whole / "checkpoint")
    assert lines(cut) == lines(whole)
    assert json.loads((cut / "inputs.json").read_text())["seed"] == 5
