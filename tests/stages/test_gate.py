"""The gate on a run folder: comparable and incomparable evaluations."""

from pathlib import Path

import pytest

from oel_core.config.run import OelConfig, parse_config
from oel_core.errors import ArtifactError
from oel_core.evaluation.base import summarise
from oel_core.rounds.context import EPISODES, REPORT
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, open_run, round_name
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.runs.manifest import StageKey
from oel_core.stages.evaluate import own_parts, stage_name
from oel_core.stages.gate import verdict_against
from tests.gate.test_promotion import played, rate

SUITE = "ood/other_symbols"


def config() -> OelConfig:
    return parse_config({"evaluate": {"ood": {"other_symbols": {}}}}, "test")


def measure(run: RunFolder, round_index: int, part: str, passed: int, temperature: float = 0.7) -> None:
    """The folder that a measurement leaves."""
    episodes = played(rate(passed))
    name = f"{round_name(round_index)}/{stage_name(part)}"
    key = StageKey(stage=name, sections=(), config={"temperature": temperature}, inputs={})

    def work(folder: Path) -> dict[str, float]:
        write_atomic(folder / REPORT, summarise(part, "model", episodes).model_dump_json().encode())
        write_atomic(folder / EPISODES, jsonl_bytes(episodes))
        return {}

    run.perform(key, work)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Round 2 is better than round 1, and nobody is worse on the suite. The base model's is not there yet."""
    found = open_run(tmp_path, "run")
    for number, passed in ((0, 10), (1, 40), (2, 90)):
        measure(found, number, "held_out", passed, temperature=1.0 if number == 0 else 0.7)
        if number:
            measure(found, number, SUITE, 100)
    return found


def test_a_better_round_is_let_through_whatever_the_base_models_held_out_settings_were(run: RunFolder) -> None:
    assert own_parts(config()) == ["held_out", SUITE]
    measure(run, 0, SUITE, 100)
    verdict = verdict_against(Round(config(), run, 2), 1)
    assert verdict.promote
    assert verdict.ood["other_symbols"].episodes == 128


def test_a_suite_is_compared_with_the_base_models_too_so_its_settings_count(run: RunFolder) -> None:
    measure(run, 0, SUITE, 50, temperature=1.0)
    with pytest.raises(ArtifactError, match=r"(?s)rounds 0 and 2 were measured with different settings.*temperature"):
        verdict_against(Round(config(), run, 2), 1)


def test_what_was_not_measured_is_said(run: RunFolder) -> None:
    with pytest.raises(ArtifactError, match=r"round_00/evaluate/ood/other_symbols has not finished"):
        verdict_against(Round(config(), run, 2), 1)
