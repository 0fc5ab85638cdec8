"""Sessions with a shared KV cache: the same bytes after a kill, whatever was cached before."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.run import ModelConfig, OelConfig
from oel_core.config.sampling import Sampling
from oel_core.errors import PolicyError
from oel_core.policies.base import Completion, Request, SessionPolicy
from oel_core.policies.hf.policy import TransformersPolicy
from oel_core.rollouts.playing import plan_episodes
from oel_core.rollouts.recording import play_into
from oel_core.runs.progress import silent
from oel_core.types import Message, Split
from tests.fakes import CORRIDOR, CorridorEnv, byte_tokenizer, tiny_model
from tests.rounding import require_bfloat16_attention

pytestmark = pytest.mark.numeric
GROUP, EPISODES = 3, 8


@pytest.fixture(autouse=True)
def _long_corridors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world of which every turn is long enough to be worth keeping."""
    monkeypatch.setitem(envs.REGISTRY, *CORRIDOR)
    monkeypatch.setattr(CorridorEnv, "_see", lambda self: f"You are in cell {self._at} of {self._size}. " * 4)


class Counted(TransformersPolicy):
    """Notes every forward: ids, mask, and how much was known before."""

    def __init__(self, config: ModelConfig) -> None:
        require_bfloat16_attention()
        # bfloat16 because there a prefill in other pieces gives other tokens
        model = tiny_model().bfloat16()
        super().__init__(model, byte_tokenizer(), config, "tiny")
        self.forwards: list[tuple[Any, ...]] = []
        model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _module: Any, _args: Any, given: dict[str, Any]) -> None:
        mask = given.get("attention_mask")
        known = given["past_key_values"].get_seq_length()
        self.forwards.append((given["input_ids"].tolist(), None if mask is None else mask.tolist(), known))


class Killed(Exception):
    pass


def settings(**model: Any) -> OelConfig:
    return OelConfig.model_validate(
        {
            "model": {"batch_size": GROUP, "device": "cpu", "max_length": 4096, **model},
            "environment": {"name": "corridor", "options": {"size": 5}, "max_turns": 4},
            "play": {"sampling": {"temperature": 1.0, "max_tokens": 12}},
        }
    )


def collect(path: Path, config: OelConfig, policy: TransformersPolicy, kill_after: int | None = None) -> None:
    plans = plan_episodes(envs.base.env_spec(config), 0, Split.EXTRACT, 1, 0, EPISODES, False)

    def progress(done: int, total: int) -> None:
        if done == kill_after:
            raise Killed

    play_into(path, config, policy, plans, progress if kill_after else silent)


def episodes(path: Path) -> Iterator[Any]:
    for line in path.read_text().splitlines():
        record = json.loads(line)
        for turn in record["turns"]:
            del turn["wall_s"]
        yield record


@pytest.mark.parametrize("kill_after", [1, 4, 7])
@pytest.mark.parametrize("same_process", [True, False])
def test_a_killed_collection_goes_on_with_the_same_bytes(tmp_path: Path, kill_after: int, same_process: bool) -> None:
    config = settings()
    whole = Counted(config.model)
    collect(tmp_path / "whole.jsonl", config, whole)
    policy = Counted(config.model)
    with pytest.raises(Killed):
        collect(tmp_path / "killed.jsonl", config, policy, kill_after)
    policy = policy if same_process else Counted(config.model)
    policy.forwards.clear()
    collect(tmp_path / "killed.jsonl", config, policy)
    assert list(episodes(tmp_path / "killed.jsonl")) == list(episodes(tmp_path / "whole.jsonl"))
    # the same arithmetic: what the replayed groups compute, the whole run computed; a beginning may be held already
    alone = [forward for forward in policy.forwards if forward[1] is not None]
    assert alone == [forward for forward in whole.forwards if forward[1] is not None][-len(alone) :]


def test_later_turns_read_only_what_is_new(tmp_path: Path) -> None:
    config = settings()
    kept, read = Counted(config.model), Counted(config.model.model_copy(update={"prefix_cache_tokens": 0}))
    collect(tmp_path / "kept.jsonl", config, kept)
    collect(tmp_path / "read.jsonl", config, read)

    def tokens(policy: Counted) -> int:
        """Of prompts; a forward of one token a row decodes."""
        return sum(len(ids) * len(ids[0]) for ids, _, _ in policy.forwards if len(ids[0]) > 1)

    assert 2 * tokens(kept) < tokens(read)


def conversation(policy: TransformersPolicy, answering: Any, turns: int) -> list[Completion]:
    messages = [Message(role="system", content="Play. " * 20), Message(role="user", content="x" * 90)]
    answers = []
    for turn in range(turns):
        answers += answering.generate([Request(tuple(messages), turn)], Sampling(temperature=1, max_tokens=8))
        messages += [Message(role="assistant", content=answers[-1].text), Message(role="user", content="y" * 20)]
    return answers


def test_a_session_knows_nothing_of_another() -> None:
    policy = Counted(settings().model)
    assert isinstance(policy, SessionPolicy)
    first, interrupted = policy.session(), policy.session()
    once = conversation(policy, first, 3)
    forwards, policy.forwards = policy.forwards, []
    conversation(policy, interrupted, 2)
    policy.forwards.clear()
    assert conversation(policy, policy.session(), 3) == once
    assert policy.forwards == forwards


def test_a_closed_policy_ends_its_sessions() -> None:
    policy = TransformersPolicy(tiny_model(), byte_tokenizer(), settings().model, "tiny")
    session = policy.session()
    policy.close()
    with pytest.raises(PolicyError, match="closed"):
        session.generate([], Sampling())
