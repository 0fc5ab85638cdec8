"""A study of a second: players that are rules, and a distillation that only says that it was there."""

from pathlib import Path
from typing import Any

from oel_core.config.run import ModelConfig, parse_config
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.seeds import derive_seed
from oel_core.study.arms import ARMS
from oel_core.study.plan import StudyPlan
from oel_core.types import Message
from tests.builders import step_record

TRUTH = "- EXPERIENCE ITEM: the goal is to the right"


def player(messages: tuple[Message, ...], seed: int) -> str:
    """Extracts one item an episode; goes right when it knows so, else by chance."""
    if "study one finished episode" in messages[0].content:
        return f"{TRUTH}\n- EXPERIENCE ITEM: seen {seed % 1000}"
    knows = TRUTH in messages[0].content
    return f"I go [{'right' if knows or derive_seed('player', seed) % 2 else 'left'}]"


def learned(messages: tuple[Message, ...], seed: int) -> str:
    """Goes right, and extracts."""
    return player(messages, seed) if "study one" in messages[0].content else "I go [right]"


def load_scripted(path: str, config: ModelConfig) -> Policy:
    return ScriptedPolicy(learned if path.endswith("checkpoint") else player, batch_size=4)


def fake_distill(*, workdir: Path, config: Any, knowledge: Any, injection: Any, on_step: Any, **given: Any) -> Path:
    """Leaves what a distillation leaves; other teaching, other weights."""
    step = step_record(entropy=0.1, response_tokens=1, response_length=1.0, wall_s=0.0, tokens=1)
    (workdir / "checkpoint").mkdir(exist_ok=True)
    (workdir / "checkpoint" / "weights.txt").write_text(
        f"{config.regime} {injection} {[entry.text for entry in knowledge]}"
    )
    (workdir / "steps.jsonl").write_bytes(jsonl_bytes([step]))
    on_step(step)
    return workdir / "checkpoint"


def tiny_plan(**changes: Any) -> StudyPlan:
    """All arms, two seeds, two rounds of the corridor."""
    values: dict[str, Any] = {
        "environment": {"name": "corridor", "max_turns": 4},
        "collect": {"replicas": 2, "extraction_episodes": 4},
        "extract": {"use_after": 2},
        "knowledge": {
            "max_tokens": 400,
            "source": {"raw_max_tokens": 4000},
            "selection": {"use": "best", "episodes": 4},
        },
        "distill": {"steps": 2, "episodes_per_step": 2},
        "evaluate": {"games": {"episodes": 6}},
    }
    plan = StudyPlan(
        preset="corridor",
        config=parse_config(values, "test"),
        seeds=(1, 2),
        arms=tuple(ARMS),
        rounds=2,
        foreign="round:2",
    )
    return plan.model_copy(update=changes)
