"""The dry run: estimates, missing requirements, and that it never loads weights."""

import json
from pathlib import Path
from typing import Any

import pytest

from oel_core.config.run import load_config
from oel_core.errors import ConfigError
from oel_core.evaluation.harness import lm_eval as lm_harness
from oel_core.models.architectures import known_architecture
from oel_core.preflight import dry_run as module
from oel_core.preflight.dry_run import DryRun, Machine, dry_run, find_architecture
from tests.fakes import tiny_model_folder

LARGE = Machine("cpu", 10**15, 10**15)


@pytest.fixture(autouse=True)
def _no_hub_and_a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cached_file", lambda hub_id, name: None)
    monkeypatch.setattr(module, "_from_hub", lambda hub_id: None)
    monkeypatch.setattr(module, "_hub_gives", lambda hub_id: False)
    monkeypatch.setattr(module, "inspect_machine", lambda config, root: LARGE)
    monkeypatch.setattr(lm_harness, "installed", lambda: False)


def look(preset: str, *overrides: str, root: Path = Path("runs")) -> DryRun:
    return dry_run(load_config(preset, overrides), root)


def test_the_quickstart_can_start() -> None:
    report = look("quickstart")
    assert report.missing == ()
    assert report.parameters == report.trained == 1_046_208
    assert report.memory is not None
    assert 10**8 < report.memory < 10**10
    assert [stage.stage for stage in report.stages] == [
        "evaluate the base model",
        "collect",
        "extract",
        "select",
        "distill",
        "evaluate",
    ]


def test_a_paper_preset_names_everything_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "inspect_machine", lambda config, root: Machine("cpu", 2**33, 2**33))
    missing = look("paper-sokoban-4b").missing
    assert [line.partition(":")[0] for line in missing] == ["model", "evaluation", "gpu", "memory", "disk"]
    assert "hub cannot be reached" in missing[0]
    assert "oel[lm-eval]" in missing[1]


def test_a_model_in_the_hub_cache_or_on_the_hub_is_not_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ood = "evaluate.ood={}"
    assert look("paper-frozen-lake-4b", ood, "model.device=cpu").missing[0].startswith("model: ")
    monkeypatch.setattr(module, "_hub_gives", lambda hub_id: True)
    assert look("paper-frozen-lake-4b", ood, "model.device=cpu").missing == ()
    monkeypatch.setattr(module, "_hub_gives", lambda hub_id: False)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    monkeypatch.setattr(module, "cached_file", lambda hub_id, name: tmp_path / name)
    assert look("paper-frozen-lake-4b", ood, "model.device=cpu").missing == ()


def test_an_unknown_architecture_is_said_to_be_unknown(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path)
    values: dict[str, Any] = json.loads((folder / "config.json").read_text())
    assert find_architecture(str(folder))[0] is not None
    (folder / "config.json").write_text(json.dumps({**values, "model_type": "something-new"}))
    report = look("quickstart", f"model.path={folder}")
    assert (report.parameters, report.trained, report.memory) == (None, None, None)
    assert report.stages[0].calls > 0, "calls and tokens need no architecture"
    assert look("quickstart", "model.path=nobody/knows").known_from == "unknown"


def test_an_adapter_has_its_bases_architecture(tmp_path: Path) -> None:
    base = tiny_model_folder(tmp_path)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(base)})
    )
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    assert find_architecture(str(adapter)) == find_architecture(str(base))


def test_a_model_that_was_not_fetched_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    report = look("smollm2-textworld")
    assert [line for line in report.missing if "oel models fetch smollm2-135m" in line]
    known = known_architecture("smollm2-135m")
    assert known is not None
    assert report.parameters == known.parameters


def test_a_world_that_does_not_exist_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="did you mean lake"):
        look("quickstart", "environment.name=laek")


def test_nothing_is_loaded_and_nothing_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import transformers

    def refuse(*arguments: object, **more: object) -> None:
        pytest.fail("weights were loaded")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuse)
    look("quickstart", root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_machine_is_looked_at_where_the_runs_will_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    machine = module.inspect_machine(load_config("quickstart", ["model.device=cpu"]), tmp_path / "not" / "there")
    assert machine.device == "cpu"
    assert machine.memory > 2**28
    assert machine.disk > 0


def test_an_engine_that_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oel_core.policies.vllm.policy.find_spec", lambda name: None)
    for use in ("model.backend=vllm", "distill.rollouts=vllm"):
        (line,) = look("quickstart", use).missing
        assert line.startswith("engine: vLLM is not installed")
    served = ("model.openai={base_url: http://127.0.0.1:1/v1, api_key_env: OEL_NO_SUCH_KEY}", "model.backend=openai")
    (line,) = look("quickstart", *served).missing
    assert line.startswith("engine: ")
    assert "OEL_NO_SUCH_KEY" in line


def test_replayed_prompts_are_looked_for(tmp_path: Path) -> None:
    general = tmp_path / "general.jsonl"
    use = f"distill.retention.replay={{path: {general}}}"
    (line,) = look("quickstart", use).missing
    assert line.startswith(f"replay: distill.retention.replay.path: {general} cannot be read")
    general.write_text("")
    (line,) = look("quickstart", use).missing
    assert "holds no prompts" in line
    general.write_text('{"messages": [{"role": "user", "content": "Count."}]}\n')
    assert look("quickstart", use).missing == ()


def test_a_chat_template_that_loses_what_an_episode_says_is_found(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path)
    assert look("quickstart", f"model.path={folder}").missing == ()
    (folder / "chat_template.jinja").write_text("{{ 'Hello' }}")
    (missing,) = look("quickstart", f"model.path={folder}").missing
    assert missing.startswith("model: the model's chat template, given messages of system, user, leaves out")
