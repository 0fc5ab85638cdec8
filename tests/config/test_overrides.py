"""`--set`: text is read by the type that its field declares, and a wrong value is blamed on who wrote it."""

from pathlib import Path

import pytest

from flows.cli.app import call
from oel_core.config.run import OelConfig, check_overrides, load_config
from oel_core.errors import ConfigError

MEANT = {
    "seed=010": ("seed", 10),
    "description=1e5": ("description", "1e5"),
    "description=123": ("description", "123"),
    "description=null": ("description", "null"),
    "description=": ("description", ""),
    "description=[a": ("description", "[a"),
    "description='a: b'": ("description", "a: b"),
    'description="a" and b': ("description", '"a" and b'),
    "model.path=123": ("model.path", "123"),
    "model.path=a #b": ("model.path", "a #b"),
    "model.openai.model=null": ("model.openai.model", None),
    "model.openai.model='null'": ("model.openai.model", "null"),
    "environment.options.symbols.goal=y": ("environment.options", "y"),
    "environment.options.symbols.hole=N": ("environment.options", "N"),
    "distill.learning_rate=1e-4": ("distill.learning_rate", 1e-4),
    "distill.max_grad_norm=2": ("distill.max_grad_norm", 2.0),
    "distill.clip=null": ("distill.clip", None),
    "model.lora.r=8": ("model.lora.r", 8),
}


@pytest.mark.parametrize("override", MEANT)
def test_an_override_is_taken_as_it_is_meant(override: str) -> None:
    path, wanted = MEANT[override]
    value = load_config("quickstart", [override])
    for name in path.split("."):
        value = getattr(value, name)
    if isinstance(value, dict):
        value = value["symbols"][override.partition("=")[0].rpartition(".")[2]]
    assert value == wanted
    assert type(value) is type(wanted)


REFUSED = {
    "rounds=1:30": "rounds: should be a valid integer (got '1:30')",
    "rounds=2.0": "rounds: should be a valid integer (got 2.0)",
    "rounds=true": "rounds: should be a valid integer (got true)",
    "rounds=99999999999": "rounds: should be less than or equal to 2147483647 (got 99999999999)",
    "model.batch_size=1:00:00": "model.batch_size: should be a valid integer (got '1:00:00')",
    "model.thinking=1": "model.thinking: should be a valid boolean (got 1)",
    "distill.learning_rate=inf": "distill.learning_rate: should be a valid number (got 'inf')",
    "distill.learning_rate=true": "distill.learning_rate: should be a valid number (got true)",
    "play.sampling.temperature=nan": "play.sampling.temperature: should be a valid number (got 'nan')",
    "distill.clip=inf": "distill.clip: should be a valid number or null (got 'inf')",
    "distill.clip=.inf": "line 1: .inf is not a finite number: where a setting may be left open, write null",
    "model.lora.alpha=inf": "model.lora.alpha: should be a valid number (got 'inf')",
    "model.lora={target_modules: [1]}": "model.lora.target_modules.0: should be a valid string: put it in quotes",
    "model.dtype=float16": "model.dtype: should be 'float32' or 'bfloat16' (got 'float16')",
    "rouns=3": "rouns: no such setting: did you mean rounds",
    "distil.steps=3": "distil: no such setting: did you mean distill",
    "distill.step=3": "distill.step: no such setting: did you mean steps",
    "rounds=": "rounds: should be a valid integer (got null)",
    "evaluate.ood.ifeval=3": "evaluate.ood.ifeval: should be an object",
}


@pytest.mark.parametrize("override", REFUSED)
def test_a_wrong_override_is_blamed_itself(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", [override])
    first = str(caught.value).splitlines()
    blamed = first[0] if len(first) == 1 else first[1].strip()
    assert blamed.startswith(f"--set {override}")
    assert REFUSED[override] in blamed


def test_the_file_is_blamed_with_its_line_for_what_it_says_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("rounds: 2\ndistill:\n  steps: many\n  learning_rate: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), ["seed=-1", "distill.learning_rate=2"])
    assert str(caught.value).splitlines()[1:] == [
        "  --set seed=-1: seed: should be greater than or equal to 0 (got -1)",
        f"  {path}, line 3: distill.steps: should be a valid integer (got 'many')",
    ]
    assert load_config(str(path), ["distill.steps=3"]).distill.steps == 3, "an override heals what it replaces"


def test_settings_that_do_not_go_together_name_the_file_and_the_overrides() -> None:
    with pytest.raises(
        ConfigError, match=r"^preset quickstart with --set extract\.use_after=9: extract\.use_after is 9"
    ):
        load_config("quickstart", ["extract.use_after=9"])


@pytest.mark.parametrize("override", ["rouns=3", "distill.steps=many", "model.openai.base_url=http://u:p@h/v1"])
def test_an_override_can_be_refused_without_a_preset(override: str) -> None:
    with pytest.raises(ConfigError, match=f"^--set {override.split('=')[0]}"):
        check_overrides([override])


def test_what_needs_other_settings_waits_for_them() -> None:
    check_overrides(["extract.use_after=9", "model.backend=openai", "distill.retention.replay.weight=2"])


@pytest.mark.parametrize("override", ["description=\udcff", "rounds=\udcff", "\udcff=1"])
def test_bytes_that_are_not_utf_8_are_refused(override: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["config", "show", "quickstart", "--set", override]) == 2
    assert "UTF-8" in capsys.readouterr().err


def test_the_whole_configuration_is_strict() -> None:
    fields = {name: field.annotation for name, field in OelConfig.model_fields.items()}
    sections = [kind for kind in fields.values() if isinstance(kind, type) and hasattr(kind, "model_config")]
    assert len(sections) >= 10
    assert all(kind.model_config["strict"] and not kind.model_config["allow_inf_nan"] for kind in sections)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("environment.options.size=true", "environment 'lake': size: should be a valid integer (got true)"),
        ("environment.options.size=3.0", "environment 'lake': size: should be a valid integer (got 3.0)"),
        ("environment.options.sise=3", "environment 'lake': sise: no such setting: did you mean size?"),
        ("environment.options.symbols.goal=1", "should be a valid string: put it in quotes (got 1)"),
        ("environment.options.symbols.goal=y", "a different capital letter each"),
        ("environment.name=laek", "unknown environment 'laek': did you mean lake"),
    ],
)
def test_options_of_the_world_are_strict_where_they_are_shown(
    override: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["config", "show", "quickstart", "--set", override]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have_is_an_unknown_preset(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["config", "diff", "quickstart", name]) == 2
    assert "unknown preset" in capsys.readouterr().err
