"""The contract of a policy (`oel_core.policies.base.Policy`)."""

from oel_core.config.sampling import Sampling
from oel_core.policies.base import Completion, Policy, Request
from oel_core.types import Message, StopReason


def check_policy(policy: Policy, *, max_tokens: int = 8) -> None:
    """Checks the contract of a policy with a few requests. The policy stays open.

    Raises:
        AssertionError: the policy violates its contract; the message says how.
    """
    assert policy.name, "name is empty: records say by it who wrote a response"
    assert policy.batch_size >= 1, f"batch_size is {policy.batch_size}"
    assert policy.generate([], Sampling()) == [], "no requests must give no completions"
    requests = [_request("one", 0), _request("two words", 1), _request("x" * 40, 2)]
    sampling = Sampling(temperature=1.0, max_tokens=max_tokens)
    answers = policy.generate(requests, sampling)
    assert len(answers) == len(requests), f"{len(requests)} requests got {len(answers)} completions"
    for answer in answers:
        _check_completion(answer, max_tokens)
    assert len({answer.prompt_ids for answer in answers}) == len(requests), "completions are not in the requests' order"
    if policy.reproducible:
        assert policy.generate(requests, sampling) == answers, "reproducible, but the same batch got other completions"
    longer, shorter = policy.count_tokens("one two three four"), policy.count_tokens("one")
    assert longer > shorter >= 1, f"count_tokens gives {longer} for four words and {shorter} for one"


def _request(text: str, seed: int) -> Request:
    return Request((Message(role="system", content="Answer."), Message(role="user", content=text)), seed)


def _check_completion(answer: Completion, max_tokens: int) -> None:
    assert answer.prompt_ids, "prompt_ids is empty"
    assert len(answer.response_ids) <= max_tokens, f"{len(answer.response_ids)} tokens, {max_tokens} were allowed"
    if answer.stop_reason is StopReason.LENGTH:
        assert len(answer.response_ids) == max_tokens, "the stop reason is length, but there was room for more tokens"
