"""Which general prompts a step replays."""

from collections import Counter
from pathlib import Path

import pytest

from oel_core.config.distill import ReplayConfig
from oel_core.distillation.data.dataset import Step
from oel_core.distillation.data.replay import ReplayPrompt, add_replay
from oel_core.errors import DistillationError
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.types import Message

TEXTS = ("one", "three", "eleven")


def encode(messages):
    return [len(message.content) for message in messages] * 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "general.jsonl"
    file.write_bytes(jsonl_bytes([ReplayPrompt(messages=(Message(role="user", content=text),)) for text in TEXTS]))
    return file


@pytest.mark.parametrize("count", [2, 3, 7])
def test_prompts_come_equally_often_and_are_named_by_their_line(path: Path, count: int) -> None:
    steps = add_replay(
        [Step(1, ()), Step(2, ())], ReplayConfig(path=str(path), prompts_per_step=count), encode, 5, seed=1
    )
    for step in steps:
        assert [sample.index for sample in step.replay] == list(range(count))
        assert max(Counter(sample.id for sample in step.replay).values()) == -(-count // len(TEXTS))
        for sample in step.replay:
            line = int(sample.id.removeprefix("replay/line"))
            assert list(sample.prompt) == list(sample.teacher_prompt) == [len(TEXTS[line - 1])] * 5
    assert len({sample.seed for step in steps for sample in step.replay}) == 2 * count


def test_a_prompt_may_fill_the_room_and_no_more(path: Path) -> None:
    with pytest.raises(DistillationError, match=r"general.jsonl:1: this prompt is 1 tokens over the 4"):
        add_replay([Step(1, ())], ReplayConfig(path=str(path)), encode, 4, seed=1)
