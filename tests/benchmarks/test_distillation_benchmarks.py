"""Every benchmark's code runs at tiny sizes; its figures have no meaning there."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from oel_core.config.run import ModelConfig
from oel_core.models.checkpoints import SEED_LM
from tests.benchmarks import (
    distillation_gpu,
    distillation_growth,
    distillation_memory,
    distillation_pretrained,
    distillation_speed,
    exactness,
    layouts,
    plain,
    policy_rates,
    probe,
)
from tests.benchmarks.floor import floor_tokens
from tests.benchmarks.flops import peak_flops, update_flops
from tests.benchmarks.workload import (
    ModelShape,
    Workload,
    as_text,
    draw_corpus,
    load_workload_model,
    pretrained_workload,
    save_workload_model,
    word_tokenizer,
)
from tests.rounding import chain, rounding

SHAPE = ModelShape(hidden=32, layers=2, heads=2, kv_heads=1, head_dim=16, intermediate=64, vocabulary=300)
TINY = Workload(shape=SHAPE, samples=4, prompt=6, response=4, knowledge=20, files=2, top_k=16, peer_micro_batch=2)


@pytest.fixture
def _same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes run here: a fresh process would import TRL again for seconds."""
    for benchmark in (distillation_memory, distillation_growth, distillation_gpu, distillation_pretrained):
        monkeypatch.setattr(benchmark, "measure_apart", probe.measure_here)


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The plain update of `TINY`."""
    folder = tmp_path_factory.mktemp("reference")
    save_workload_model(TINY, folder)
    student, teacher = (load_workload_model(folder, TINY) for _ in range(2))
    return plain.plain_update(student, teacher, TINY, draw_corpus(TINY))


@pytest.fixture(scope="module")
def terms(tmp_path_factory):
    """Numbers that are added up on the way to one weight's gradient."""
    folder = tmp_path_factory.mktemp("terms")
    save_workload_model(TINY, folder)
    longest = TINY.knowledge + TINY.own_length
    return chain(load_workload_model(folder, TINY), longest, TINY.samples * longest)


@pytest.fixture(scope="module")
def off(terms, reference):
    """Most that two right losses may be apart in nats, and two gradients relative to their norm."""
    return rounding(max(1.0, reference.loss), terms)


@pytest.mark.numeric
def test_speed_compares_equal_work(tmp_path, off, reference):
    (row,) = distillation_speed.run(TINY, [20], 1, tmp_path)
    assert row.exactness.loss < off / reference.loss
    assert row.exactness.gradient < off
    assert row.exactness.peer_loss < off / reference.renormalised_loss, "the peer saw other samples or objectives"
    assert min(row.peer.low, row.ours.low, row.ours_kept.low, row.floor, row.floor_in_context) > 0
    assert read(tmp_path, "distillation_speed")["rows"][0]["workload"]["knowledge"] == 20
    assert (tmp_path / "distillation_speed.svg").read_text(encoding="utf-8").count("SDFT")


@pytest.mark.usefixtures("_same_process")
def test_memory_has_a_row_for_each_contender(tmp_path):
    distillation_memory.run(TINY, [20], [2, 1], tmp_path)
    names = [row["contender"] for row in read(tmp_path, "distillation_memory")["rows"]]
    assert names == ["ours", "SDFT, 2 samples a forward", "SDFT, 1 samples a forward"]


@pytest.mark.usefixtures("_same_process")
def test_growth_has_all_series(tmp_path):
    distillation_growth.run(TINY, [16], [4], [300], 1, tmp_path)
    rows = read(tmp_path, "distillation_growth")["rows"]
    assert [(row["series"], row["x"], row["contender"]) for row in rows] == [
        ("knowledge", 16, "ours"),
        ("knowledge", 16, "ours-kept"),
        ("batch", 4, "ours"),
        ("vocabulary", 300, "ours"),
        ("vocabulary", 300, "sdft"),
    ]
    assert (tmp_path / "distillation_growth.svg").is_file()


@pytest.mark.usefixtures("_same_process")
def test_gpu_code_runs_on_a_cpu(tmp_path):
    rows = distillation_gpu.run(replace(TINY, mixed=True), 1, tmp_path, device_flops=1e12)
    assert [row.contender for row in rows] == ["ours", "ours-kept", "sdft"]
    assert all(row.utilisation is not None and 0 < row.utilisation < 1 for row in rows)


@pytest.mark.numeric
def test_exactness_against_both_precisions(tmp_path, off, reference, terms):
    (row,) = exactness.run(TINY, [20], [0], tmp_path)
    for found in (row.ours, row.ours_double, row.plain_double):
        assert found.loss < off / reference.loss
        assert found.gradient < off
    assert row.plain_double.gradient > rounding(1, terms, torch.float64), "float64 was not computed in float64"


def test_ties_at_the_kth_logit_are_counted():
    log_probs = torch.tensor([[-1.0, -2.0, -2.0000005, -3.0], [-1.0, -2.0, -2.5, -3.0]])
    assert plain._ties(log_probs, 2) == 1
    assert plain._ties(log_probs, 4) == 0


@pytest.mark.numeric
def test_layouts_agree_and_sharing_reads_fewer_tokens(tmp_path, terms):
    shape = layouts.Episodes(episodes=2, turns=3, instructions=20, observation=4, response=4)
    padded, packed, shared = layouts.run(TINY, shape, 1, tmp_path)
    taught = TINY.knowledge + 20 + 3 * (4 + 4)  # tokens of the longest turn
    bound = rounding(max(1.0, padded.loss), terms + 2 * SHAPE.layers * taught + 6 * taught)
    assert packed.loss == pytest.approx(padded.loss, rel=0, abs=bound)
    assert shared.loss == pytest.approx(padded.loss, rel=0, abs=bound)
    assert padded.tokens > packed.tokens > shared.tokens


def test_peak_memory_counts_what_an_update_needs():
    found = probe.measure_apart("ours", TINY, 1)
    assert len(found.seconds) == 1
    assert found.peak_bytes > 0


def test_workloads_survive_their_json_form():
    from dataclasses import asdict

    assert probe.read_workload(json.loads(json.dumps(asdict(TINY)))) == TINY
    assert probe.read_workload({"knowledge": 7}) == Workload(knowledge=7)


def test_words_are_tokens():
    text = draw_corpus(TINY).texts[0]
    assert word_tokenizer(SHAPE.vocabulary)(text=[as_text(text.prompt)])["input_ids"] == [text.prompt]


def test_floor_and_operations_by_hand():
    assert floor_tokens(TINY) == 4 * 10 + 2 * 20 / 4
    one = replace(TINY, samples=1, prompt=1, response=1, knowledge=0, files=1)
    layers = 2 * SHAPE.block_weights * 2 + 4 * 2 * 2 * 16 * 2  # two tokens, half of a square of two
    assert update_flops(one, knowledge_files=1) == 4 * (layers + 2 * SHAPE.head_weights)
    more = partial(update_flops, TINY)
    assert more(knowledge_files=2) - more(knowledge_files=0) == 2 * (
        2 * SHAPE.block_weights * 20 + 4 * 2 * 2 * 16 * 200
    )


def test_known_devices():
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("some other device") is None
    assert peak_flops("NVIDIA L40S") == 362e12


@pytest.mark.usefixtures("_same_process")
def test_a_checkpoints_own_weights_are_measured(tmp_path):
    (tmp_path / "model").mkdir()
    save_workload_model(TINY, tmp_path / "model")
    sizes = {
        name: getattr(TINY, name) for name in ("samples", "prompt", "response", "files", "top_k", "peer_micro_batch")
    }
    workload = pretrained_workload(str(tmp_path / "model"), **sizes)
    assert workload.shape.vocabulary == SHAPE.vocabulary
    rows = distillation_pretrained.run(workload, [10, 20], 1, tmp_path)
    assert [(row.contender, row.workload.knowledge) for row in rows] == [
        (name, length) for length in (10, 20) for name in probe.CONTENDERS
    ]
    assert len(read(tmp_path, distillation_pretrained.NAME)["rows"]) == 6


def test_rates_of_a_policy_have_a_line_for_each_number_of_rows():
    lines = policy_rates.run(SEED_LM, ModelConfig(path=SEED_LM), rows=[1, 2], prompt=8, repeats=1).splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["rows", "---", "1", "2"]
