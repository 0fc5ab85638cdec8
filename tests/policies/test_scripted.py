"""The scripted policy satisfies the policy contract."""

from oel_core.config.sampling import Sampling
from oel_core.policies.base import Request
from oel_core.policies.scripted import END, ScriptedPolicy
from oel_core.types import Message, StopReason


def ask(text: str, seed: int) -> Request:
    return Request((Message(role="user", content=text),), seed)


def test_answers_come_from_messages_and_seed() -> None:
    policy = ScriptedPolicy(lambda messages, seed: f"{messages[-1].content}{seed}", batch_size=2)
    first, second = policy.generate([ask("é", 1), ask("b", 2)], Sampling())
    assert (first.text, second.text) == ("é1", "b2")
    assert first.response_ids == (*"é1".encode(), END)
    assert first.stop_reason is StopReason.EOS
    assert policy.count_tokens("é1") == len(first.response_ids) - 1


def test_the_end_token_counts_toward_the_cap() -> None:
    policy = ScriptedPolicy(lambda messages, seed: "abc")
    whole, cut = (policy.generate([ask("", 0)], Sampling(max_tokens=n))[0] for n in (4, 3))
    assert (whole.text, whole.stop_reason) == ("abc", StopReason.EOS)
    assert (cut.text, cut.stop_reason) == ("abc", StopReason.LENGTH)
