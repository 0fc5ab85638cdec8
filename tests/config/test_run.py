"""Configurations: every preset loads, every problem is reported with its path, and overrides mean what they say."""

from pathlib import Path

import pytest

from oel_core.config.run import dump_config, load_config, parse_config, preset_names
from oel_core.config.student_rollouts import rollout_model
from oel_core.config.yaml_text import parse_yaml
from oel_core.errors import ConfigError
from oel_core.preflight.check import check


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_loads_and_survives_a_round_trip(preset: str, tmp_path: Path) -> None:
    config = load_config(preset)
    assert config.description
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(str(path)) == config


def test_all_problems_are_reported_at_once_with_their_paths() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", ["rounds=-1", "distill.learning_rate=fast", "play.colour=red", "model.lora={r: 0}"])
    message = str(caught.value)
    assert "4 problem(s)" in message
    for path in ("rounds", "distill.learning_rate", "play.colour", "model.lora.r"):
        assert path in message


def test_unknown_presets_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean quickstart"):
        load_config("quikstart")


@pytest.mark.parametrize("override", ["rounds", "=3", "a..b=1", "rounds.deep=1", "rounds=[1", "distill={"])
def test_overrides_that_cannot_be_read_are_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        load_config("quickstart", [override])


def test_overrides_apply_in_order_and_read_scientific_numbers() -> None:
    config = load_config("quickstart", ["distill.learning_rate=1e-4", "rounds=5", "rounds=2", "extract.use_after=null"])
    assert config.distill.learning_rate == 1e-4
    assert config.rounds == 2
    assert config.use_after == config.collect.extraction_episodes // 2


def test_using_more_episodes_than_are_played_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"extract\.use_after is 9"):
        load_config("quickstart", ["extract.use_after=9", "collect.extraction_episodes=8"])


def test_merged_adapters_need_whole_weights_and_a_backend_that_takes_whole_models() -> None:
    merge = "model.lora={r: 4, merge: true}"
    assert not load_config("quickstart", [merge]).model.makes_adapters
    assert load_config("quickstart", ["model.lora={r: 4}"]).model.makes_adapters
    with pytest.raises(ConfigError, match=r"model\.lora\.merge makes whole models, but a server"):
        load_config("quickstart", [merge, "model.backend=openai", "model.openai.managed=true"])
    with pytest.raises(ConfigError, match=r"whole weights in every process, but distill\.sharding is fsdp2"):
        load_config("quickstart", [merge, "distill.sharding=fsdp2", "distill.processes=2"])
    managed = load_config("quickstart", [merge, "distill.rollouts=openai", "model.openai.managed=true"])
    with pytest.raises(ConfigError, match="a server takes over adapters only"):
        rollout_model(managed.model, managed.distill)


@pytest.mark.parametrize("text", ["- a\n- list\n", "key: [unclosed", "just words"])
def test_files_that_are_no_configuration_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        load_config(str(path))


def test_the_resolved_form_says_every_field() -> None:
    resolved = parse_yaml(dump_config(load_config("quickstart")), "resolved").values
    assert resolved["distill"]["weight_decay"] == 0.01
    assert resolved["model"]["lora"] is None


@pytest.mark.parametrize("bounds", ["[1.5, 0.5]", "[-0.1, 1]"])
def test_bounds_that_nothing_can_meet_are_refused(bounds: str) -> None:
    with pytest.raises(ConfigError, match="lower bound first"):
        load_config("quickstart", [f"gate.response_ratio={bounds}"])
    with pytest.raises(ConfigError, match="ood_tolerances"):
        load_config("quickstart", ["gate.ood_tolerances={other_symbols: 5}"])


@pytest.mark.parametrize("label", ["../up", "a/b", ".hidden", "two words", "a\x1b[2J", ""])
def test_a_suites_label_is_a_name_of_a_folder_and_a_metric(label: str) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.ood.*use letters, digits") as caught:
        parse_config({"evaluate": {"ood": {label: {"suite": "other_symbols"}}}}, "test")
    assert "\x1b" not in str(caught.value)


def test_a_tolerance_for_a_suite_that_is_not_measured_is_refused() -> None:
    check(load_config("quickstart", ["gate.ood_tolerances={other_symbols: 0.1}"]))
    with pytest.raises(ConfigError, match=r"ood_tolerances: other_simbols is no suite.*other_symbols"):
        check(load_config("quickstart", ["gate.ood_tolerances={other_simbols: 0.1}"]))
