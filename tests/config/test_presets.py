"""The paper's presets against the paper's table, and its seeds against the reference's formulas, worked out by hand."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from oel_core.config.run import OelConfig, load_config, preset_names
from oel_core.envs import EnvSpec
from oel_core.errors import ConfigError
from oel_core.rollouts.planning import plan_episodes
from oel_core.seeds import SEEDINGS, reference_seed
from oel_core.stages.collect import consolidation_plans, extraction_plans
from oel_core.types import Split

PAPER: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "paper_settings.json").read_text())


def own(config: OelConfig) -> dict[str, Any]:
    return {
        "environment": config.environment.name,
        "options": config.environment.options,
        "model": config.model.path,
        "thinking": config.model.thinking,
        "format": config.extract.format,
        "with_previous": config.extract.with_previous,
        "episodes": config.collect.extraction_episodes,
        "used": config.use_after,
        "knowledge_cap": config.knowledge.max_tokens,
        "learning_rate": config.distill.learning_rate,
        "steps": config.distill.steps,
        "rounds": config.rounds,
    }


def common(config: OelConfig) -> dict[str, Any]:
    evaluation = config.evaluate.games.sampling
    lengths = {config.play.sampling.max_tokens, config.distill.max_response_tokens, evaluation.max_tokens}
    assert config.play.sampling.temperature == config.distill.temperature
    return {
        "replicas": config.collect.replicas,
        "episodes_per_step": config.distill.episodes_per_step,
        "max_turns": config.environment.max_turns,
        "response_tokens": lengths.pop() if len(lengths) == 1 else lengths,
        "top_k": config.distill.top_k,
        "temperature": config.distill.temperature,
        "weight_decay": config.distill.weight_decay,
        "max_grad_norm": config.distill.max_grad_norm,
        "lora": config.model.lora,
        "held_out_episodes": config.evaluate.games.episodes,
        "eval_temperature": evaluation.temperature,
        "eval_top_p": evaluation.top_p,
        "eval_top_k": evaluation.top_k,
    }


@pytest.mark.parametrize("preset", PAPER["settings"])
def test_a_paper_preset_is_the_papers_setting(preset: str) -> None:
    config = load_config(preset)
    assert own(config) == PAPER["settings"][preset]
    assert common(config) == PAPER["common"]
    assert config.play.history_turns is None, "the whole episode stays in the prompt"
    assert config.environment.seeds == "paper"
    assert config.distill.turns_per_episode is None
    assert "ifeval" in config.evaluate.ood


def test_every_paper_preset_is_in_the_table() -> None:
    assert {name for name in preset_names() if name.startswith("paper-")} == set(PAPER["settings"])


@pytest.mark.parametrize("preset", PAPER["settings"])
def test_the_longest_prompt_of_a_paper_preset_fits_its_model(preset: str) -> None:
    config = load_config(preset)
    turns = 512 * config.environment.max_turns
    assert config.knowledge.max_tokens + turns + 1024 <= config.model.max_length
    answers = 1024 * config.environment.max_turns
    known = config.knowledge.max_tokens if config.extract.with_previous else 0
    assert known + turns + answers + config.extract.sampling.max_tokens <= config.model.max_length


@pytest.mark.parametrize("split", PAPER["seeds"])
def test_the_references_seeds_by_hand(split: str) -> None:
    for place, seed in PAPER["seeds"][split].items():
        *round_index, index = (int(part) for part in place.split("/"))
        assert reference_seed(7, Split(split), round_index[0] if round_index else 0, 3, index) == seed


def test_a_paper_run_plays_the_references_seeds() -> None:
    config = load_config("paper-sokoban-4b")
    extraction = extraction_plans(config, 2)
    assert len(extraction) == 10 * 100
    assert {plan.seed for plan in extraction} == {469588046 + 1000 * index for index in range(100)}
    assert len({plan.id for plan in extraction}) == 1000, "replicas play the same boards under ids of their own"
    consolidation = consolidation_plans(config, 2)
    assert [plan.seed for plan in consolidation[:65:64]] == [515209463, 515273463]
    assert len({plan.seed for plan in consolidation}) == 6400


def test_the_references_seeds_never_meet_across_splits_and_rounds() -> None:
    found = [reference_seed(0, Split.HELD_OUT, 0, 0, index) for index in range(500)]
    for split, number in itertools.product((Split.EXTRACT, Split.VALIDATION, Split.DISTILL), range(1, 5)):
        found += [reference_seed(0, split, number, 0, index) for index in range(500)]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("split", "round_index", "index"),
    [(Split.EXTRACT, 1, 500), (Split.DISTILL, 1, 10_000), (Split.HELD_OUT, 0, 500), (Split.EXTRACT, 64, 0)],
)
def test_places_beyond_the_references_ranges_are_refused(split: Split, round_index: int, index: int) -> None:
    with pytest.raises(ConfigError, match="disjoint"):
        reference_seed(0, split, round_index, 0, index)


def test_seeds_of_the_paper_cannot_be_chosen_by_layout() -> None:
    with pytest.raises(ConfigError, match="split_by_layout cannot choose"):
        load_config("paper-frozen-lake-4b", ["environment.split_by_layout=true"])


def test_without_the_choice_seeds_stay_disjoint() -> None:
    spec = EnvSpec("lake")
    plain = plan_episodes(spec, 0, Split.EXTRACT, 1, 0, 3, False)
    assert plain == plan_episodes(spec, 0, Split.EXTRACT, 1, 0, 3, False, SEEDINGS["disjoint"])
    assert load_config("quickstart").environment.seeds == "disjoint"
