"""A policy with a copy in every worker. Work is distributed in whole batches, so that each batch is computed as in a
single process."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import TypeVar

from oel_core.config.run import ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.errors import PromptTooLongError
from oel_core.models.checkpoints import is_named
from oel_core.policies.answers import answer_batch
from oel_core.policies.base import Completion, Policy, Request
from oel_core.policies.replicated.dispatch import Worker, dispatch

Item = TypeVar("Item")
Result = TypeVar("Result")
Load = Callable[[str, ModelConfig], Policy]
Work = Callable[[Policy, Item], Result]


class ReplicatedPolicy:
    """See `Policy`. The workers can serve several policies, one after another; their creator closes them.

    Args:
        workers: at least one.
        path, config: the checkpoint, available under the same path on all nodes.
        load: called in the worker for every item; should cache the policy.
    """

    def __init__(self, workers: Sequence[Worker], path: str, config: ModelConfig, load: Load) -> None:
        self._workers, self._config, self._load = workers, config, load
        self._path = os.path.abspath(path) if os.path.isdir(path) and not is_named(path) else path
        (described,) = self.map(_describe, [None])
        self.name, self.reproducible, self.batch_size = described

    def map(self, work: Work[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        """`work(policy, item)` of every item on one of the copies, in the order of the items.

        Raises:
            PolicyError: as `dispatch`.
            Exception: as `load` and `work`.
        """
        return dispatch(self._workers, partial(_with_policy, self._load, self._path, self._config, work), items)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """See `Policy.generate`; `batch_size` requests at a time.

        Raises:
            PromptTooLongError: some prompts leave no room for `sampling.max_tokens`.
        """
        size = self.batch_size
        batches = [requests[first : first + size] for first in range(0, len(requests), size)]
        answers = [one.answer for found in self.map(partial(answer_batch, sampling=sampling), batches) for one in found]
        problems = {at: str(answer) for at, answer in enumerate(answers) if isinstance(answer, PromptTooLongError)}
        if problems:
            raise PromptTooLongError(problems)
        return [answer for answer in answers if not isinstance(answer, PromptTooLongError)]

    @cached_property
    def _count(self) -> Callable[[str], int]:
        """Runs in this process: a call to a worker would wait for the batch that it is running."""
        if self._config.backend not in ("transformers", "vllm"):
            return self._load(self._path, self._config).count_tokens
        from oel_core.policies.text.chat import Chat  # transformers takes seconds to import

        encode = Chat.load(self._path, self._config).encode
        return lambda text: len(encode(text))

    def count_tokens(self, text: str) -> int:
        """See `Policy.count_tokens`."""
        return self._count(text)

    def close(self) -> None:
        """No-op: the workers are kept for other policies."""


def on_each(policy: Policy, work: Work[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work(policy, item)` of every item, in order: one after the other, or on the copies of a `ReplicatedPolicy`."""
    return policy.map(work, items) if isinstance(policy, ReplicatedPolicy) else (work(policy, item) for item in items)


def _describe(policy: Policy, _: None) -> tuple[str, bool, int]:
    return policy.name, policy.reproducible, policy.batch_size


def _with_policy(load: Load, path: str, config: ModelConfig, work: Work[Item, Result], item: Item) -> Result:
    """Runs in a worker."""
    return work(load(path, config), item)
