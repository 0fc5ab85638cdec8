"""Prompts of the months benchmark's arm `replay`: boards with letters never met, without knowledge."""

from pathlib import Path

from oel_core.config.run import OelConfig
from oel_core.distillation.data.replay import ReplayPrompt
from oel_core.envs import make_env
from oel_core.envs.base import env_spec
from oel_core.prompts.play import first_messages
from oel_core.runs.files import write_atomic
from oel_core.runs.jsonl import jsonl_bytes
from tests.benchmarks.months_probes import with_unknown_letters

FIRST_SEED, PROMPTS = 2**40, 64
"""Episodes of rounds up to 63 have seeds below 2³²."""


def write_replay(path: Path, config: OelConfig) -> None:
    """The first prompts of episodes that no run plays, as `distill.retention.replay` reads them."""
    spec = env_spec(with_unknown_letters(config))
    prompts = []
    for seed in range(FIRST_SEED, FIRST_SEED + PROMPTS):
        environment = make_env(spec, seed)
        prompts.append(ReplayPrompt(messages=first_messages(environment.instructions, environment.start())))
        environment.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, jsonl_bytes(prompts))
