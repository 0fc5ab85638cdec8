"""What another machine trained becomes a round's own, if it was trained on a bundle of the round."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oel_core.bundles.making import made_bundles, make_bundle
from oel_core.errors import ArtifactError, ConfigError, OelError
from oel_core.models.checkpoints import ADAPTER_CONFIG, adapter_base
from oel_core.policies.hf.policy import TransformersPolicy
from oel_core.rounds.context import CHECKPOINT
from oel_core.rounds.round import Round
from oel_core.runs.folder import check_stages
from oel_core.stages.distill import distill
from oel_core.stages.exchange import adopt as module
from oel_core.stages.exchange.adopt import ORIGIN, adopt
from oel_core.stages.round import run_round
from tests.bundles.rounds import SCRIPTED, played, received


@pytest.fixture
def here(tmp_path: Path, model: Path) -> Round:
    return played(tmp_path, model)


@pytest.fixture
def there(tmp_path: Path, model: Path, here: Round) -> Path:
    """The distill folder of a machine that has the model elsewhere."""
    other = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(model, other)
    bundle = make_bundle(here, tmp_path / "a.zip")
    round = received(tmp_path, other, bundle.path)
    run_round(round, SCRIPTED)
    return round.stage("distill").path


def test_the_round_goes_on_with_the_adopted_checkpoint(here: Round, there: Path) -> None:
    adopt(here, there)
    ours = here.stage("distill").path
    for path in there.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            assert (ours / path.relative_to(there)).read_bytes() == path.read_bytes()
    assert (ours / ORIGIN).read_bytes() == (there / "manifest.json").read_bytes()
    assert here.model() == str(ours / CHECKPOINT)
    check_stages(here.run, here.config)
    assert distill(here, SCRIPTED) == here.stage("distill").manifest()  # it is not trained again
    assert adopt(here, there) == here.stage("distill").manifest()


def test_a_kill_while_copying_leaves_no_stage_and_the_same_call_finishes(
    here: Round, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Stands for SIGKILL."""

    copy, copied = shutil.copyfile, []

    def kill(source: Path, target: Path) -> Any:
        copied.append(copy(source, target))
        if len(copied) == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "copyfile", kill)
        with pytest.raises(Killed):
            adopt(here, there)
    assert not here.stage("distill").finished
    adopt(here, there)
    assert here.stage("distill").finished


def in_manifest(edit: Callable[[Any], None]) -> Callable[[Path], None]:
    """Changes the manifest of the other machine."""

    def change(folder: Path) -> None:
        value = json.loads((folder / "manifest.json").read_text())
        edit(value)
        (folder / "manifest.json").write_text(json.dumps(value))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_manifest(lambda value: value["key"]["inputs"].pop("bundle")), "no distillation of a bundle"),
        (in_manifest(lambda value: value["key"].update(stage="round_01/collect")), "no distillation of a bundle"),
        (in_manifest(lambda value: value["key"]["inputs"].update(bundle="0" * 64)), "none of round 1's"),
        (in_manifest(lambda value: value["key"]["inputs"].update(policy="x")), "trained from another model"),
        (
            in_manifest(lambda value: value["key"]["config"].update({"distill.learning_rate": 1.0})),
            r"distill\.learning_rate: 5e-06 → 1\.0",
        ),
        (
            in_manifest(lambda value: value["outputs"].update({"../../x.json": {"bytes": 0, "digest": ""}})),
            "no file of a distillation",
        ),
        (
            in_manifest(lambda value: value["outputs"].update({"checkpoint/run.py": {"bytes": 0, "digest": ""}})),
            "no file of a distillation",
        ),
        (lambda folder: (folder / "steps.jsonl").write_text("{}\n"), "missing or was changed"),
        (lambda folder: (folder / CHECKPOINT / "model.safetensors").unlink(), "missing or was changed"),
        (lambda folder: (folder / "manifest.json").unlink(), "cannot be read"),
    ],
)
def test_anything_else_is_refused_and_leaves_nothing(
    here: Round, there: Path, change: Callable[[Path], None], message: str
) -> None:
    change(there)
    with pytest.raises(OelError, match=message):
        adopt(here, there)
    assert not list(here.path.glob("*distill*"))


def test_a_bundle_waits_for_the_selection(tmp_path: Path, model: Path) -> None:
    knowledge = {"max_tokens": 400, "selection": {"use": "best", "episodes": 2}}
    here = played(tmp_path, model, knowledge=knowledge)
    with pytest.raises(ArtifactError, match="round_01/select has not finished"):
        make_bundle(here, tmp_path / "a.zip")


def test_a_round_notes_each_of_its_bundles_once(tmp_path: Path, here: Round) -> None:
    whole = make_bundle(here, tmp_path / "a.zip").digest
    make_bundle(here, tmp_path / "b.zip")
    bare = make_bundle(here, tmp_path / "c.zip", knowledge_only=True).digest
    assert made_bundles(here) == [whole, bare]


def test_an_adapter_names_this_machines_base_model(tmp_path: Path, model: Path) -> None:
    other = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(model, other)
    adapter = {"max_length": 4096, "lora": {"r": 2}}
    here = played(tmp_path, model, model={"path": str(model)} | adapter)
    bundle = make_bundle(here, tmp_path / "a.zip")
    round = received(tmp_path, other, bundle.path, model={"path": str(other)} | adapter)
    run_round(round, SCRIPTED)
    adopt(here, round.stage("distill").path)
    shutil.rmtree(other)
    checkpoint = here.stage("distill").path / CHECKPOINT
    assert (checkpoint / ADAPTER_CONFIG).is_file()
    assert adapter_base(checkpoint) == str(model)
    TransformersPolicy.load(here.model(), here.config.model).close()


def test_other_settings_are_told_as_wrong_settings(here: Round, there: Path) -> None:
    in_manifest(lambda value: value["key"]["config"].update({"distill.steps": 9}))(there)
    with pytest.raises(ConfigError, match=r"distill\.steps: 2 → 9"):
        adopt(here, there)
