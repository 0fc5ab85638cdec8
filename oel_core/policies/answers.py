"""One batch of requests, answered as far as its prompts fit."""

import time
from collections.abc import Sequence

from oel_core.config.sampling import Sampling
from oel_core.errors import PromptTooLongError
from oel_core.policies.base import Generates, Request
from oel_core.policies.completions import Completed


def answer_batch(policy: Generates, requests: Sequence[Request], sampling: Sampling) -> list[Completed[Request]]:
    """Completions in the order of the requests; for prompts that are too long the error, and the others are completed
    without them.

    Raises:
        PolicyError: the policy cannot generate at all.
    """
    if not requests:
        return []
    started = time.perf_counter()
    try:
        completions = policy.generate(requests, sampling)
    except PromptTooLongError as error:
        problems = error.problems
    else:
        share = (time.perf_counter() - started) / len(requests)
        return [Completed(*pair, share) for pair in zip(requests, completions, strict=True)]
    fitting = [request for position, request in enumerate(requests) if position not in problems]
    rest = iter(answer_batch(policy, fitting, sampling))
    return [
        Completed(request, PromptTooLongError({position: problems[position]}), 0.0)
        if position in problems
        else next(rest)
        for position, request in enumerate(requests)
    ]
