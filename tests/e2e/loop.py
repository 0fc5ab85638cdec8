"""A short learning run of every stage, for fault injection: how it is run, and what must be the same in the end."""

import hashlib
import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from oel_core.config.run import OelConfig, parse_config
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, adopt_config, open_run
from oel_core.runs.jsonl import read_jsonl
from oel_core.stages.round import run_round
from oel_core.types import Trajectory

LONGEST = 300.0
"""Seconds after which a run of a few seconds counts as hung."""


def short_config(model: Path, rounds: int = 2) -> OelConfig:
    """Two rounds of a few seconds with a tiny random model; free text, since it never writes an item marker."""
    values: dict[str, Any] = {
        "rounds": rounds,
        "model": {"path": str(model), "max_length": 4096, "batch_size": 4},
        "environment": {"options": {"size": 4, "holes": 2, "traps": 0, "key": False}, "max_turns": 2},
        "play": {"history_turns": 0, "sampling": {"max_tokens": 8}},
        "collect": {"replicas": 2, "extraction_episodes": 4},
        "extract": {"format": "free_text", "sampling": {"max_tokens": 200}},  # what is cut at the cap is no knowledge
        "knowledge": {"max_tokens": 256, "carry_over": True},
        "distill": {
            "steps": 3,
            "episodes_per_step": 4,
            "learning_rate": 1e-3,
            "top_k": 8,
            "max_response_tokens": 6,
            "micro_batch_tokens": 256,
            "checkpoint_every": 1,
        },
        "evaluate": {
            "games": {"episodes": 6, "sampling": {"max_tokens": 8}},
            "ood": {"other_symbols": {"episodes": 4}},
        },
    }
    return parse_config(values, "short")


def run_stages(root: Path, name: str, config: OelConfig) -> None:
    """The whole loop without Prefect and MLflow."""
    run = open_run(root, name)
    with run.locked():
        adopt_config(run, config)
        for round_index in range(config.rounds + 1):
            run_round(Round(config, run, round_index))


def outcome(run: RunFolder) -> dict[str, Any]:
    """What a kill must not change: knowledge bytes, weights, and which episodes there are, in their order."""
    found: dict[str, Any] = {}
    for path in sorted(run.path.rglob("*")):
        name = path.relative_to(run.path).as_posix()
        assert ".partial" not in name, f"{name} was left behind"
        if path.name.startswith("knowledge_") or path.suffix == ".safetensors":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name in ("trajectories.jsonl", "episodes.jsonl"):
            found[name] = [(row.id, row.seed, row.reward, len(row.turns)) for row in read_jsonl(path, Trajectory)]
            assert len(set(found[name])) == len(found[name]), f"{name} has an episode twice"
    return found


def _lead(work: Callable[[], None]) -> None:
    os.setsid()
    work()


def in_own_group(work: Callable[[], None], kill_after: float | None) -> int | None:
    """Runs `work` in a process that leads its own group; SIGKILLs the group after that many seconds.

    The processes are forked from a server that has imported everything and computed nothing: forks of a process whose
    OpenMP threads have been at work can hang for ever.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "oel_core.distillation.training.trainer", "oel_core.models.loading"])
    process = context.Process(target=_lead, args=(work,))
    process.start()
    process.join(LONGEST if kill_after is None else kill_after)
    hung = kill_after is None and process.is_alive()
    if process.is_alive() and process.pid is not None:
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert not hung, f"not done after {LONGEST} s"
    return process.exitcode
