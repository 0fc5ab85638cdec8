"""Replay files that come with the package."""

import runpy
from itertools import islice
from pathlib import Path

import pytest

from oel_core.config.distill import ReplayConfig
from oel_core.config.run import load_config
from oel_core.distillation.data.replay import digest_replay, read_replay, shipped_replays
from oel_core.envs import make_env
from oel_core.envs.base import EnvSpec
from oel_core.envs.tools.env import ToolEnv
from oel_core.errors import ArtifactError
from oel_core.runs.manifest import digest_bytes

ROOT = Path(__file__).parents[3]
REQUESTS = 4
"""For each tool of the shipped file."""


@pytest.mark.parametrize("name", shipped_replays())
def test_a_shipped_file_is_named_without_a_path(name: str, tmp_path: Path) -> None:
    prompts = read_replay(ReplayConfig(path=name))
    assert len(prompts) >= 64
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes((ROOT / "oel_core/distillation/data/replays" / f"{name}.jsonl").read_bytes())
    assert read_replay(ReplayConfig(path=str(copy))) == prompts
    assert digest_replay(ReplayConfig(path=name)) == digest_replay(ReplayConfig(path=str(copy)))
    assert digest_replay(ReplayConfig(path=name)) == digest_bytes(copy.read_bytes())


def test_other_tools_is_what_its_tool_writes_and_has_the_conventions_of_no_presets_tool() -> None:
    prompts = read_replay(ReplayConfig(path="other-tools"))
    written = runpy.run_path(str(ROOT / "tools/other_tools_replay.py"))["prompts"]
    assert list(islice(written("tools-qwen-0.5b", 100, 32, REQUESTS), 12)) == prompts[:12]
    world = load_config("tools-qwen-0.5b").environment
    calls = {line.rpartition(": ")[2] for prompt in prompts for line in prompt.messages[0].content.splitlines()}
    for tool in (world.options["tool"], world.options["tool"] + 1):
        environment = make_env(EnvSpec(world.name, {**world.options, "tool": tool}, world.max_turns), 0)
        assert isinstance(environment, ToolEnv)
        own = {line.rpartition(": ")[2] for line in environment.truths().splitlines()}
        assert len(own) >= 8
        assert not own & calls


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ArtifactError, match="no such file, and the names of shipped files are other-tools"):
        read_replay(ReplayConfig(path="other-tool"))
