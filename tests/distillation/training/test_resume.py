"""Training checkpoints: atomic, pruned, and validated when loaded."""

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from oel_core.distillation.training.checkpoints import (
    CheckpointFolder,
    TrainingState,
    load_checkpoint,
    publish,
    restore_rng,
    rng_state,
)
from oel_core.errors import ArtifactError


def state(step):
    model = torch.nn.Linear(4, 1, bias=False)
    optimiser = torch.optim.AdamW([{"params": [model.weight], "weight_decay": 0.01}], lr=0.1)
    model.weight.grad = torch.ones(1, 4) * step
    optimiser.step()
    found = get_optimizer_state_dict(model, optimiser)
    return TrainingState(step, {"weight": model.weight}, found, {"last_epoch": step}, rng_state())


def nothing(folder):
    pass


def test_everything_comes_back_exactly(tmp_path):
    before = state(3)
    loaded = load_checkpoint(CheckpointFolder(tmp_path, 2).save(before, nothing))
    assert torch.equal(loaded.weights["weight"], before.weights["weight"])
    assert loaded.scheduler == {"last_epoch": 3}
    assert loaded.optimiser["state"].keys() == before.optimiser["state"].keys()
    for key, value in before.optimiser["state"]["weight"].items():
        assert torch.equal(loaded.optimiser["state"]["weight"][key], value)
    model = torch.nn.Linear(4, 1, bias=False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=9.0)
    set_optimizer_state_dict(model, optimiser, dict(loaded.optimiser))
    assert optimiser.param_groups[0]["lr"] == 0.1
    restore_rng(loaded.rng)
    first = torch.rand(3)
    restore_rng(before.rng)
    assert torch.equal(first, torch.rand(3))


def test_oldest_go_first_and_steps_sort_by_number(tmp_path):
    folder = CheckpointFolder(tmp_path, 2)
    for step in (1, 2, 9, 10, 100_000):
        folder.save(state(step), nothing)
    assert [path.name for path in folder.all()] == ["step_00010", "step_100000"]
    assert folder.latest() == tmp_path / "step_100000"


def test_half_written_folders_are_never_read_and_swept(tmp_path):
    folder = CheckpointFolder(tmp_path, 2)
    good = folder.save(state(1), nothing)

    def killed(path):
        (path / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.save(state(2), killed)
    assert folder.latest() == good
    assert list(tmp_path.glob(".*"))
    folder.sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["step_00001"]


def test_publishing_replaces_what_was_there(tmp_path):
    target = tmp_path / "out"
    for text in ("old", "new"):
        publish(target, lambda folder, text=text: (folder / "file").write_text(text))
    assert (target / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damaged_checkpoints_are_named(tmp_path, name, damage):
    path = CheckpointFolder(tmp_path, 2).save(state(1), nothing)
    if damage == "missing":
        (path / name).unlink()
    else:
        (path / name).write_bytes((path / name).read_bytes()[:-7])
    with pytest.raises(ArtifactError, match="step_00001 is not a whole checkpoint"):
        load_checkpoint(path)
