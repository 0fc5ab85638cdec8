"""Trained weights, interpolated towards the base model's."""

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


def test_the_result_lies_between_the_base_model_and_the_student(start, tmp_path):
    trained = weights(distill(**arguments(start, tmp_path / "trained")), start)
    mixed = weights(distill(**arguments(start, tmp_path / "mixed", retention={"base_share": 0.25})), start)
    base = weights(start, start)
    assert any(not torch.equal(trained[name], base[name]) for name in base)
    for name, expected in base.items():
        between = 0.75 * trained[name].double() + 0.25 * expected.double()
        bound = 4 * EPS * max(float(trained[name].abs().max()), float(expected.abs().max()))
        assert mixed[name].double() == pytest.approx(between, rel=0, abs=bound)


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


def test_a_round_that_starts_from_another_architecture_is_refused(start, tmp_path):
    given = arguments(start, tmp_path, steps=1, retention={"base_share": 0.25})
    seed_lm = given["model"].model_copy(update={"path": SEED_LM})
    with pytest.raises(DistillationError, match="base_share: the base model seed-lm has no weight"):
        distill(**given | {"model": seed_lm})
