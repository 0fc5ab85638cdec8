"""Stability bounds: which metrics leave them, early stopping, and exact rollback."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Qwen3ForCausalLM

from oel_core.config.run import DistillConfig
from oel_core.config.stability import StabilityConfig
from oel_core.distillation.stability.backtracks import BacktrackLog
from oel_core.distillation.stability.repetition import repetition_rate
from oel_core.distillation.stability.signals import Signal, advice, find_breaches, signals
from oel_core.distillation.training.run import distill
from oel_core.distillation.training.step_records import read_steps
from oel_core.errors import UnstableError
from tests.builders import step_record
from tests.distillation.builders import arguments
from tests.distillation.training.test_run import Abort, abort_at, files, lines
from tests.documents import blocks
from tests.fakes import byte_tokenizer, tiny_model
from tests.rounding import chain, rounding

VOCABULARY = 4096


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A tiny model of 4,096 tokens, peaked at few of them, whose final norm is small: one step can flatten it."""
    folder = tmp_path_factory.mktemp("model") / "wide"
    config = tiny_model().config
    config.vocab_size = VOCABULARY
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(300)
        model.model.norm.weight.fill_(0.01)
        for layer in model.model.layers:  # so that knowledge changes little
            layer.self_attn.o_proj.weight.mul_(0.01)
            layer.mlp.down_proj.weight.mul_(0.01)
    model.generation_config.eos_token_id = [2, 0]
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def collapsing(start, workdir, **changes):
    """The paper's objective over 8 of 4,096 tokens at temperature 1 and a rate that is unsafe for this model."""
    usual = {"samples": 8, "top_k": 8, "max_response_tokens": 8, "checkpoint_every": 1}
    return arguments(start, workdir, **{**usual, **changes})


# ---- the collapse ----


def test_the_unsafe_objective_is_stopped_within_three_steps_of_leaving_its_bounds(start, tmp_path):
    with pytest.raises(UnstableError) as caught:
        distill(**collapsing(start, tmp_path, steps=20))
    records = lines(tmp_path)
    first, last = records[0], records[-1]
    out = [record.step for record in records if record.student_mass < first.student_mass / 2]
    assert last.step < 20
    assert last.step - out[0] < 3
    assert last.entropy > 2 * first.entropy
    assert last.kl < first.kl + 0.1, "the loss tells nothing"
    good = tmp_path / "resume" / f"step_{out[0] - 2:05d}"
    assert good.is_dir()
    assert not [path for path in (tmp_path / "resume").iterdir() if path.name > good.name]
    for said in (
        "the student's mass on the student's top 8 tokens (student_mass) is out of its bounds",
        f"{last.student_mass:.4g} at step {last.step}; step 1 had {first.student_mass:.4g}, and at least",
        str(good),
        "distill.objective=reverse_kl_tail",
        "lower distill.learning_rate (now 0.001)",
    ):
        assert said in str(caught.value)


@pytest.mark.parametrize("objective", ["reverse_kl_tail", "reverse_kl"])
def test_a_whole_divergence_at_the_same_rate_is_not_stopped(start, tmp_path, objective):
    distill(**collapsing(start, tmp_path, steps=12, objective=objective))
    records = lines(tmp_path)
    assert records[-1].entropy < 2 * records[0].entropy
    assert (records[0].student_mass is None) == (objective == "reverse_kl")


def test_off_lets_it_come_apart(start, tmp_path):
    distill(**collapsing(start, tmp_path, steps=14, stability={"policy": "off"}))
    records = lines(tmp_path)
    assert records[-1].student_mass < records[0].student_mass / 2
    assert min(record.kl for record in records) < -0.01


# ---- going back ----

EARLY = {"policy": "backtrack", "entropy_rise": 1.3, "entropy_share": 0.01}
"""Bounds that the collapse leaves within a few steps."""


@pytest.fixture(scope="module")
def returned(start, tmp_path_factory):
    """A distillation that went back and that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("returned")
    distill(**collapsing(start, workdir, steps=6, stability=EARLY | {"backtracks": 5}))
    return workdir


def test_backtrack_goes_on_from_the_last_good_checkpoint_at_half_the_rate(returned):
    records, returns = lines(returned), BacktrackLog(returned / "backtracks.jsonl").read()
    assert [record.step for record in records] == list(range(1, 7))
    assert returns
    assert all("the student's entropy (entropy) is out of its bounds" in each.reason for each in returns)
    assert all(each.to < each.step - 1 for each in returns)
    assert {record.backtracks for record in records} <= set(range(len(returns) + 1))
    assert records[-1].backtracks == len(returns)
    assert all(record.lr == pytest.approx(1e-3 / 2**record.backtracks, rel=1e-12) for record in records)
    assert (returned / "checkpoint").is_dir()
    assert not (returned / "resume").exists()


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_a_killed_one_goes_back_to_the_same_bytes(start, tmp_path, returned, stop):
    given = collapsing(start, tmp_path, steps=6, stability=EARLY | {"backtracks": 5})
    with pytest.raises(Abort):
        distill(**given, on_step=abort_at(stop))
    distill(**given)
    assert lines(tmp_path) == lines(returned)
    assert files(tmp_path / "checkpoint") == files(returned / "checkpoint")
    assert (tmp_path / "backtracks.jsonl").read_bytes() == (returned / "backtracks.jsonl").read_bytes()


def test_a_kill_between_removing_and_recording_changes_nothing(start, tmp_path, returned, monkeypatch):
    given = collapsing(start, tmp_path, steps=6, stability=EARLY | {"backtracks": 5})

    def killed(self, backtrack):
        raise Abort

    monkeypatch.setattr(BacktrackLog, "append", killed)
    with pytest.raises(Abort):
        distill(**given)
    monkeypatch.undo()
    distill(**given)
    assert files(tmp_path / "checkpoint") == files(returned / "checkpoint")
    assert lines(tmp_path) == lines(returned)


def test_a_stopped_one_goes_on_when_the_policy_becomes_backtrack(start, tmp_path, returned):
    with pytest.raises(UnstableError, match=r"set distill\.stability\.policy=backtrack"):
        distill(**collapsing(start, tmp_path, steps=6, stability=EARLY | {"policy": "stop"}))
    assert not (tmp_path / "backtracks.jsonl").exists()
    distill(**collapsing(start, tmp_path, steps=6, stability=EARLY | {"backtracks": 5}))
    assert files(tmp_path / "checkpoint") == files(returned / "checkpoint")


def test_after_the_last_return_it_stops(start, tmp_path):
    with pytest.raises(UnstableError, match="Last good checkpoint"):
        distill(**collapsing(start, tmp_path, steps=6, stability=EARLY | {"backtracks": 1, "entropy_rise": 1.0}))
    assert len(BacktrackLog(tmp_path / "backtracks.jsonl").read()) == 1
    assert lines(tmp_path)[-1].backtracks == 1


@pytest.mark.slow
def test_two_processes_go_back_as_one_does(start, tmp_path, returned):
    seen = []
    given = collapsing(start, tmp_path, steps=6, processes=2, stability=EARLY | {"backtracks": 5})
    distill(**given, on_step=lambda record: seen.append(record.step))
    one, two = lines(returned), lines(tmp_path)
    assert [record.backtracks for record in two] == [record.backtracks for record in one]
    terms = chain(Qwen3ForCausalLM.from_pretrained(start), two[0].tokens, two[0].tokens)
    bound = rounding(math.log(VOCABULARY), terms)  # before the first optimiser step; what comes after it is chaotic
    assert two[0].entropy == pytest.approx(one[0].entropy, rel=0, abs=bound)
    assert [each.to for each in BacktrackLog(tmp_path / "backtracks.jsonl").read()] == [
        each.to for each in BacktrackLog(returned / "backtracks.jsonl").read()
    ]
    assert seen[-1] == 6
    assert len(seen) > 6


# ---- signals ----


def found(config, **fields):
    """Names of the fields that are out of bounds after two such steps."""
    usual = {"student_mass": 0.9, "teacher_mass": 0.9, "response_length": 40.0}
    history = [step_record(1, **usual), step_record(2, **(usual | fields)), step_record(3, **(usual | fields))]
    breaches = find_breaches(signals(config, VOCABULARY), history)
    assert all(len(breach.records) == 2 and breach.since == 2 for breach in breaches)
    return {breach.signal.field for breach in breaches}


LARGEST = math.log(VOCABULARY)


@pytest.mark.parametrize(
    ("fields", "signal"),
    [
        ({"entropy": 3.01}, "entropy"),
        ({"kl": -0.011}, "kl"),
        ({"student_mass": 0.449}, "student_mass"),
        ({"teacher_mass": 0.449}, "teacher_mass"),
        ({"response_length": 4.9}, "response_length"),
        ({"response_length": 321.0}, "response_length"),
        ({"truncation_rate": 0.51}, "truncation_rate"),
        ({"repetition_rate": 0.41}, "repetition_rate"),
    ],
)
def test_each_signal_is_found_beyond_its_bound_and_not_within(fields, signal):
    config = DistillConfig(stability={"entropy_share": 0.3})
    assert found(config, **fields) == {signal}
    (name,) = fields
    within = {"entropy": 2.99, "kl": -0.009, "response_length": 5.1 if fields[name] < 40 else 319.0}
    assert found(config, **{name: within.get(name, fields[name] + (0.02 if "mass" in name else -0.02))}) == set()


def test_entropy_may_rise_where_it_stays_far_from_uniform():
    config = DistillConfig(stability={"entropy_rise": 1.5, "entropy_share": 0.5})
    assert found(config, entropy=0.5 * LARGEST - 0.01) == set()
    assert found(config, entropy=0.5 * LARGEST + 0.01) == {"entropy"}


ALL_OUT = {
    "entropy": LARGEST,
    "kl": -1.0,
    "student_mass": 0.0,
    "teacher_mass": 0.0,
    "response_length": 1.0,
    "truncation_rate": 1.0,
    "repetition_rate": 1.0,
}
RESPONSES = {"response_length", "truncation_rate", "repetition_rate"}
MASSES = {"student_mass", "teacher_mass"}


@pytest.mark.parametrize(
    ("settings", "absent"),
    [
        ({}, set()),
        ({"objective": "reverse_kl"}, MASSES),
        ({"objective": "sampled_token"}, {"kl"} | MASSES),
        ({"regime": "teacher_rollouts"}, RESPONSES),
        ({"regime": "sft"}, {"kl"} | MASSES | RESPONSES),
    ],
)
def test_signals_that_say_nothing_under_a_setting_are_not_watched(settings, absent):
    assert found(DistillConfig(**settings), **ALL_OUT) == ALL_OUT.keys() - absent


def test_a_signal_that_comes_back_starts_anew():
    history = [step_record(number, kl=kl) for number, kl in enumerate((0.5, -1.0, 0.5, -1.0), start=1)]
    (breach,) = find_breaches(signals(DistillConfig(), VOCABULARY), history)
    assert [record.step for record in breach.records] == [4]


TRIAL_KL = (0.72, 0.86, 0.37, 0.01, -0.03, -0.03, -0.04)
TRIAL_ENTROPY = (1.0, 10.7)
"""Qwen2.5-Coder-0.5B (151,936 tokens) diverging under `reverse_kl_top_k` (k 64, LoRA of rank 32, rate 2e-4), recorded
without stability bounds: the divergence of its steps, and the student's entropy in the first and last one."""


def test_the_divergences_of_a_real_collapse_are_enough_to_stop_it() -> None:
    """Even without the entropies and masses between, which were not recorded."""
    watched = signals(DistillConfig(objective="reverse_kl_top_k", learning_rate=2e-4), 151_936)
    history = [step_record(number, kl=kl) for number, kl in enumerate(TRIAL_KL, start=1)]
    lasting = StabilityConfig().patience
    found = [find_breaches(watched, history[:steps]) for steps in range(1, len(history) + 1)]
    stopped = next(n for n, breaches in enumerate(found, 1) if any(len(one.records) >= lasting for one in breaches))
    left = next(n for n, breaches in enumerate(found, 1) if breaches)
    assert (left, stopped) == (5, 6)
    first, last = (step_record(number, entropy=entropy) for number, entropy in enumerate(TRIAL_ENTROPY, start=1))
    assert [breach.signal.field for breach in find_breaches(watched, [first, last])] == ["entropy"]


RECORDED = (
    {"kl": 0.4481, "entropy": 1.3293, "student_mass": 0.9542, "teacher_mass": 0.8774, "truncation_rate": 0.0},
    {"kl": 0.4205, "entropy": 3.4191, "student_mass": 0.8010, "teacher_mass": 0.7929, "truncation_rate": 0.0},
    {"kl": 0.1885, "entropy": 6.1587, "student_mass": 0.5194, "teacher_mass": 0.6142, "truncation_rate": 0.125},
    {"kl": -0.0114, "entropy": 9.2234, "student_mass": 0.1927, "teacher_mass": 0.3563, "truncation_rate": 0.875},
)
"""The same setting again (docs/real-models.md)."""


def test_a_recorded_collapse_is_found_in_the_step_that_the_page_says() -> None:
    watched = signals(DistillConfig(objective="reverse_kl_top_k", learning_rate=2e-4), 151_936)
    history = [step_record(number, **values) for number, values in enumerate(RECORDED, start=1)]
    found = [find_breaches(watched, history[:steps]) for steps in range(1, len(history) + 1)]
    assert [{breach.signal.field for breach in breaches} for breaches in found] == [
        *(set(), set(), {"entropy"}),
        {"kl", "entropy", "student_mass", "teacher_mass", "truncation_rate"},
    ]
    assert [len(breach.records) for breach in found[3] if breach.signal.field == "entropy"] == [
        StabilityConfig().patience
    ]


@pytest.mark.numeric
def test_the_mass_is_that_of_the_top_k(start, tmp_path):
    """All of the vocabulary has all of it, on both sides."""
    distill(**collapsing(start, tmp_path, steps=1, top_k=VOCABULARY))
    (record,) = read_steps(tmp_path / "steps.jsonl")
    sums = 2 * rounding(1, VOCABULARY)  # of the log-softmax and of its probabilities
    bound = sums + rounding(math.log(VOCABULARY), 1)  # exponents are log-probabilities, whose mean is at most that
    assert (record.student_mass, record.teacher_mass) == pytest.approx((1.0, 1.0), rel=0, abs=bound)


def test_repeated_four_grams_are_counted_within_a_response():
    assert repetition_rate([[1, 2, 3, 4, 5]]) == 0
    assert repetition_rate([[1, 2, 3, 4], [1, 2, 3, 4]]) == 0, "two responses may be alike"
    assert repetition_rate([[7] * 8]) == 4 / 5
    assert repetition_rate([[7] * 8, [1, 2, 3, 4, 5, 6, 8, 9]]) == 4 / 10
    assert repetition_rate([[1, 2], []]) == 0


@pytest.mark.parametrize(("value", "outside"), [(1.0, False), (3.0, False), (0.99, True), (3.01, True)])
def test_a_value_on_a_bound_is_within(value, outside):
    signal = Signal("entropy", "entropy", "nats", least=lambda first: first / 2, most=lambda first: first * 1.5)
    assert signal.outside(step_record(entropy=value), step_record(entropy=2.0)) is outside


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"objective": "reverse_kl_top_k"}, True),
        ({}, False),
        ({"objective": "forward_kl"}, False),
        ({"objective": "reverse_kl_top_k", "regime": "sft"}, False),
    ],
    ids=["top k", "default", "another objective", "no teacher"],
)
def test_another_objective_is_advised_where_the_top_k_is_looked_at(settings, named):
    assert ("distill.objective=reverse_kl_tail" in advice(DistillConfig(**settings))) is named


def test_the_page_prints_what_its_script_prints():
    """The whole objective's runaway in thirty lines: numbers to one more unit of the digits that are shown."""
    page = list(blocks(Path(__file__).parents[3] / "docs" / "distillation.md"))
    (place,) = [number for number, block in enumerate(page) if block.text.startswith("import torch")]
    script, shown = page[place].text, page[place + 1].text
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    said, wanted = (re.findall(r"-?[0-9]+\.[0-9]+", text) for text in (done.stdout, shown))
    assert len(wanted) == 30
    assert [float(value) for value in said] == pytest.approx([float(value) for value in wanted], abs=0.011)
