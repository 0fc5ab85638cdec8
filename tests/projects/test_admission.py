"""Which received episodes a model can learn from, and the episodes of others that once stopped a project."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from oel_core.config.knowledge import KnowledgeConfig
from oel_core.config.run import ExtractConfig, OelConfig, parse_config
from oel_core.config.sampling import Sampling
from oel_core.projects.admission import Admission
from oel_core.projects.triggers import Trigger, begin
from oel_core.runs.folder import open_run
from oel_core.runs.jsonl import LineError
from oel_core.types import Message, Trajectory
from tests.builders import episode, turn
from tests.fakes import tiny_model_folder

ESCAPES = "\x1b[31mX"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model_folder(tmp_path_factory.mktemp("model")))


def config(model: str, inbox: Path | None = None, **distill: Any) -> OelConfig:
    sections = {
        "model": {"path": model, "max_length": 1024},
        "environment": {"name": "lake"},
        "knowledge": {"max_tokens": 100},
        "distill": {"max_response_tokens": 24} | distill,
        "experience": {"inbox": str(inbox), "min_episodes": 2} if inbox else {},
    }
    return parse_config(sections, "test")


def said(*contents: str, roles: tuple[str, ...] = ("system", "user")) -> Trajectory:
    """An episode whose turns have these as last messages."""
    turns = [
        turn(number).model_copy(
            update={"messages": tuple(Message(role=role, content=content) for role in roles)}  # type: ignore[arg-type]
        )
        for number, content in enumerate(contents)
    ]
    return episode("e", turns=turns)


def test_an_episode_without_one_prompt_that_fits_is_refused(model: str) -> None:
    require = Admission(config(model), model).require
    require(said("b", "b" * 2000))
    with pytest.raises(LineError, match=r"turns: no prompt fits the context: .* 100 .* 24 tokens .* of 1024"):
        require(said("b" * 2000, "b" * 3000))


def test_room_is_what_knowledge_and_response_leave(model: str) -> None:
    require = Admission(config(model), model).require
    fits = [length for length in range(1, 1000) if _admitted(require, said("b" * length, roles=("user",)))]
    assert fits == list(range(1, len(fits) + 1))
    assert 500 < len(fits) < 1024 - 124


def test_step_by_step_only_the_shown_items_need_room(model: str) -> None:
    shown = {"max_tokens": 5000, "injection": {"mode": "step_wise", "items": 2}}
    settings = config(model).model_copy(
        update={
            "knowledge": KnowledgeConfig.model_validate(shown),
            "extract": ExtractConfig(sampling=Sampling(max_tokens=50)),
        }
    )
    assert settings.injected_cap == 100
    Admission(settings, model).require(said("b", "b" * 300))


def _admitted(require: Any, one: Trajectory) -> bool:
    try:
        require(one)
    except LineError:
        return False
    return True


def test_token_ids_matter_where_responses_are_learned_from(model: str) -> None:
    foreign = episode("e", turns=[turn(0), turn(1).model_copy(update={"response_ids": (5, 10**6)})])
    Admission(config(model), model).require(foreign)
    with pytest.raises(
        LineError, match=r"turns\.1\.response_ids: a token id that the model does not have \(259 tokens"
    ):
        Admission(config(model, regime="sft"), model).require(foreign)


def test_a_template_that_refuses_the_conversation(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    admission = Admission(config(model), model)
    admission._chat.tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(LineError, match=r"turns\.0\.messages: .*no system role"):
        admission.require(said("b"))


def lines() -> list[bytes]:
    """What other people's deployments left: the same cases as in the shared folder."""
    values = [json.loads(one.model_copy(update={"env": "lake"}).model_dump_json()) for one in [said("b")] * 5]
    values[0]["turns"][0]["messages"] = []
    values[1]["turns"][0]["messages"] = [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]
    values[2]["turns"][0]["messages"][1]["content"] = "b" * 20000
    values[3] |= {"env": ESCAPES, "id": "\x1b[2J\x1b]0;pwned\x07"}
    values[4]["reward"] = float("nan")
    return [json.dumps(value).encode() + b"\n" for value in values]


def triggered(model: str, root: Path, data: bytes) -> Trigger:
    """A trigger of a project whose inbox holds this."""
    (root / "inbox").mkdir()
    (root / "inbox" / "a.jsonl").write_bytes(data)
    asked = config(model, root / "inbox")
    return begin(asked, open_run(root, "project"), "one", 0, Admission(asked, model).require)


def require_each_named(found: Trigger, root: Path) -> None:
    assert found.outcome == "waiting"
    have, *reasons = found.detail.split("\n")
    assert have == f"1 of 2 new episodes in {root / 'inbox'}"
    assert [reason.partition(", ")[2].partition(":")[0] for reason in reasons] == [
        "turns.0.messages", "turns", "env", "reward"
    ]  # fmt: skip
    assert [reason[-15:-1] for reason in reasons] == [f"a.jsonl line {number}" for number in (1, 3, 4, 5)]


def test_the_bad_lines_are_named_and_the_good_one_is_used(model: str, tmp_path: Path) -> None:
    require_each_named(triggered(model, tmp_path, b"".join(lines())), tmp_path)


def test_the_shared_cases(model: str, tmp_path: Path) -> None:
    if "OEL_SHARED" not in os.environ:
        pytest.skip("needs the shared cases: set OEL_SHARED")
    require_each_named(
        triggered(model, tmp_path, (Path(os.environ["OEL_SHARED"]) / "cases" / "inbox.jsonl").read_bytes()), tmp_path
    )
