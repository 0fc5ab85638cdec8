"""The quickstart learns from its own experience, round by round, and keeps the skill it learns with."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


QUICKSTART = os.environ.get("OEL_QUICKSTART")
"""A run that `make quickstart` has just made; without it the test makes its own."""


def oel(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("oel")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    run = QUICKSTART
    if run is None:
        root = tmp_path_factory.mktemp("runs")
        run = str(root / "quickstart")
        oel("run", "quickstart", "--root", str(root), "--name", "quickstart")
    return [json.loads(line) for line in oel("rounds", run, "--json").splitlines()]


def test_every_round_is_reported(rounds: list[dict[str, Any]]) -> None:
    assert [row["round"] for row in rounds] == [0, 1, 2, 3]
    for row in rounds:
        low, high = row["ci95"]
        assert low <= row["pass_rate"] <= high
        assert set(row["ood"]) == {"other_symbols", "swapped_roles"}


def test_the_first_round_is_better_than_the_base_model(rounds: list[dict[str, Any]]) -> None:
    base, first = rounds[0], rounds[1]
    assert first["ci95"][0] > base["ci95"][1]


def test_extracted_knowledge_helps_more_than_raw_trajectories(rounds: list[dict[str, Any]]) -> None:
    base, first = rounds[0], rounds[1]
    assert first["in_context_pass_rate"] > base["pass_rate"]
    assert first["in_context_pass_rate"] > first["raw_pass_rate"]


def test_later_rounds_build_on_the_first(rounds: list[dict[str, Any]]) -> None:
    base, first, last = rounds[0], rounds[1], rounds[-1]
    assert last["ci95"][0] > base["ci95"][1]
    assert last["ci95"][1] >= first["pass_rate"]


def test_every_round_keeps_the_skill_of_following_knowledge(rounds: list[dict[str, Any]]) -> None:
    """`swapped_roles` contradicts what was learnt and is reported only."""
    before = rounds[0]["ood"]["other_symbols"]
    assert all(row["ood"]["other_symbols"] >= before - 0.1 for row in rounds[1:])


def test_knowledge_grows(rounds: list[dict[str, Any]]) -> None:
    tokens = [row["knowledge_tokens"] for row in rounds[1:]]
    assert tokens == sorted(tokens)
    assert tokens[-1] > tokens[0]
