"""Trained weights, interpolated towards those of the base model or of the round's start."""

import pytest
import torch

from oel_core.distillation.training.run import distill
from oel_core.errors import DistillationError
from oel_core.models.checkpoints import SEED_LM
from oel_core.models.loading import load_model
from tests.distillation.builders import arguments
from tests.fakes import tiny_model_folder

pytestmark = pytest.mark.numeric

EPS = torch.finfo(torch.float32).eps


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


def logits(folder, start):
    """Next-token logits of a checkpoint on some tokens, with its adapter if it has one."""
    model, _ = load_model(str(folder), arguments(start, start)["model"])
    with torch.no_grad():
        return model(input_ids=torch.tensor([[70, 71, 72, 73]])).logits


def weights(folder, start):
    return load_model(str(folder), arguments(start, start)["model"])[0].state_dict()


def between(start, folders, share):
    """Asserts that the last of three checkpoints is (1 - share) · the first + share · the second."""
    own, end, mixed = (weights(folder, start) for folder in folders)
    assert any(not torch.equal(own[name], end[name]) for name in own)
    for name, tensor in mixed.items():
        expected = (1 - share) * own[name].double() + share * end[name].double()
        bound = 4 * EPS * max(float(own[name].abs().max()), float(end[name].abs().max()))
        assert tensor.double() == pytest.approx(expected, rel=0, abs=bound)


def test_the_result_lies_between_the_base_model_and_the_student(start, tmp_path):
    trained = distill(**arguments(start, tmp_path / "trained"))
    mixed = distill(**arguments(start, tmp_path / "mixed", retention={"base_share": 0.25}))
    between(start, (trained, start, mixed), 0.25)


def test_an_adapter_is_scaled(start, tmp_path):
    lora = {"r": 4, "alpha": 8}
    trained = distill(**arguments(start, tmp_path / "trained", lora=lora, learning_rate=1e-2))
    mixed = distill(
        **arguments(start, tmp_path / "mixed", lora=lora, learning_rate=1e-2, retention={"base_share": 0.25})
    )
    own, scaled = weights(trained, start), weights(mixed, start)
    factors = [name for name in own if "lora_B" in name]
    assert factors
    assert all(torch.equal(scaled[name], own[name] * 0.75) for name in factors)
    assert all(torch.equal(scaled[name], own[name]) for name in own if name not in factors)
    before, after, whole = (logits(folder, start) for folder in (start, mixed, trained))
    assert (after - before).norm() < (whole - before).norm()


@pytest.mark.parametrize("lora", [None, {"r": 4, "alpha": 8}])
def test_a_share_of_the_rounds_start_is_a_moving_average_over_rounds(start, tmp_path, lora):
    first = distill(**arguments(start, tmp_path / "first", lora=lora, learning_rate=1e-2))
    later = {"lora": lora, "learning_rate": 1e-2}
    trained = distill(**arguments(start, tmp_path / "trained", **later) | {"start": str(first)})
    given = arguments(start, tmp_path / "mixed", **later, retention={"start_share": 0.25})
    mixed = distill(**given | {"start": str(first)})
    between(start, (trained, first, mixed), 0.25)


def test_the_share_of_the_start_comes_before_that_of_the_base_model(start, tmp_path):
    first = distill(**arguments(start, tmp_path / "first"))
    shares = {"averaged": {"start_share": 0.25}, "both": {"start_share": 0.25, "base_share": 0.5}}
    averaged, both = (
        distill(**arguments(start, tmp_path / name, retention=retention) | {"start": str(first)})
        for name, retention in shares.items()
    )
    between(start, (averaged, start, both), 0.5)


def test_a_new_adapter_is_averaged_with_the_model_under_it(start, tmp_path):
    settings = {"lora": {"r": 4, "alpha": 8}, "learning_rate": 1e-2}
    by_start, by_base = (
        distill(**arguments(start, tmp_path / name, **settings, retention={name: 0.25}))
        for name in ("start_share", "base_share")
    )
    one, other = weights(by_start, start), weights(by_base, start)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_merged_model_is_interpolated_with_the_base_model_and_not_with_its_start(start, tmp_path):
    settings = {"lora": {"r": 4, "alpha": 8, "merge": True}, "learning_rate": 1e-2}
    first = distill(**arguments(start, tmp_path / "first", **settings))
    given = arguments(start, tmp_path / "trained", **settings)
    trained = distill(**given | {"start": str(first)})
    mixed = distill(
        **arguments(start, tmp_path / "mixed", **settings, retention={"base_share": 0.25}) | {"start": str(first)}
    )
    between(start, (trained, start, mixed), 0.25)


def test_a_round_that_starts_from_another_architecture_is_refused(start, tmp_path):
    given = arguments(start, tmp_path, steps=1, retention={"base_share": 0.25})
    seed_lm = given["model"].model_copy(update={"path": SEED_LM})
    with pytest.raises(DistillationError, match=r"the model seed-lm has no weight .* Set base_share to 0"):
        distill(**given | {"model": seed_lm})
