"""Replay prompts of the tool world: requests to other tools than a run's, with the ground truth of each in its prompt.

    python tools/other_tools_replay.py oel_core/distillation/data/replays/other-tools.jsonl

For `distill.retention.replay`, so that a model that learns one tool goes on reading the manual of another. The tools
are numbered far from the presets' and from those of the suite `other_tool`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from oel_core.config.run import load_config
from oel_core.distillation.data.replay import ReplayPrompt
from oel_core.envs import make_env
from oel_core.envs.base import EnvSpec
from oel_core.envs.tools.env import ToolEnv
from oel_core.prompts.play import first_messages, with_knowledge
from oel_core.runs.files import write_atomic
from oel_core.runs.jsonl import jsonl_bytes

FIRST_SEED = 2**40
"""Episodes of rounds up to 63 have seeds below 2³²."""


def prompts(preset: str, first_tool: int, tools: int, requests: int) -> Iterator[ReplayPrompt]:
    """`requests` prompts for each of `tools` tools, as the suite `other_tool` shows them."""
    chosen = load_config(preset).environment
    for tool in range(first_tool, first_tool + tools):
        spec = EnvSpec(chosen.name, {**chosen.options, "tool": tool}, chosen.max_turns)
        for seed in range(FIRST_SEED, FIRST_SEED + requests):
            environment = make_env(spec, seed)
            assert isinstance(environment, ToolEnv)
            asked = first_messages(environment.instructions, environment.start())
            yield ReplayPrompt(messages=with_knowledge(asked, environment.truths()))


def main(
    path: Path,
    preset: str = "tools-qwen-0.5b",
    first_tool: int = 100,
    tools: Annotated[int, typer.Option(min=1)] = 32,
    requests: Annotated[int, typer.Option(min=1)] = 4,
) -> None:
    """Writes the prompts to PATH, JSONL. The defaults make the shipped file."""
    write_atomic(path, jsonl_bytes(prompts(preset, first_tool, tools, requests)))


if __name__ == "__main__":
    typer.run(main)
